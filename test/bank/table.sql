-- The leads of bank-additional-full.csv, as a data team keeps them: the columns of the file, in their types, and a key.
--
-- The file (S. Moro, P. Cortez, P. Rita 2014, UCI Machine Learning Repository, "Bank Marketing", CC BY 4.0) has no key: a
-- lead is the line that it stands on. The first line is the header, so the leads begin with line 2.
CREATE TABLE bank_leads (
    line bigint GENERATED ALWAYS AS IDENTITY (START WITH 2) PRIMARY KEY,
    age integer,
    job text,
    marital text,
    education text,
    "default" text,
    housing text,
    loan text,
    contact text,
    month text,
    day_of_week text,
    duration integer,
    campaign integer,
    pdays integer,
    previous integer,
    poutcome text,
    "emp.var.rate" numeric,
    "cons.price.idx" numeric,
    "cons.conf.idx" numeric,
    euribor3m numeric,
    "nr.employed" numeric,
    y text
);
COMMENT ON TABLE bank_leads IS 'Clients of a Portuguese bank whom it called to offer a term deposit, 2008 to 2010; y is what came of it.';
