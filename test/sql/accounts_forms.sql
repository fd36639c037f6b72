-- The normal forms in which accounts and leads are compared.
\set SHOW_CONTEXT never
-- spellings of one company have one form
WITH cases (form, spellings) AS (VALUES
    ('acme', ARRAY['ACME', 'Acme GmbH', 'Acme GmbH & Co. KG', 'Acme mbH', 'Acme gGmbH', 'Acme KGaA', 'Acme AG', 'Acme SE', 'Acme e.V.', 'ACME OHG',
        'Acme UG (haftungsbeschränkt)', 'Acme Ltd', 'Acme Ltd.', 'Acme Limited', 'Acme, LLC', 'Acme L.L.C.', 'Acme, Inc.', 'Acme Incorporated', 'Acme Corp.',
        'Acme Corporation', 'Acme Co', 'Acme & Co.', 'Acme Co., Ltd.', 'Acme PLC', 'Acme p.l.c.', 'Acme S.A.', 'Acme SA', 'Acme SAS', 'Acme S.A.S.', 'Acme SARL',
        'Acme S.à r.l.', 'Acme S.r.l.', 'Acme SpA', 'Acme S.p.A.', 'Acme B.V.', 'Acme BV', 'Acme N.V.', 'Acme Oy', 'Acme Oyj', 'Acme AB', 'AcmE A/S', 'Acme ApS',
        'Acme AS', 'Acme a.s.', 'Acme Kft.', 'Acme Zrt', 'Acme Sp. z o.o.', 'Acme Sp. z o. o.', 'Acme sp. z oo', 'Acme s.r.o.', 'Acme spol. s r.o.', 'Acme d.o.o.',
        'Acme Pty Ltd', 'Acme Pty. Limited', 'Acme Pte. Ltd.', 'Acme Pvt Ltd', 'Acme K.K.', 'Acme Kabushiki Kaisha', 'Acme S.A. de C.V.', 'Acme S. de R.L. de C.V.',
        'Acme Ltda.', 'Acme Sdn. Bhd.', 'UAB "Acme"', 'SIA Acme', 'OÜ Acme', 'Acme Ltd. Şti.', 'The Acme Company', '  acme  ', '"Acme"', 'ACME®', 'ＡＣＭＥ　ＬＴＤ']),
    ('mueller soehne', ARRAY['Müller & Söhne', 'Mueller und Soehne GmbH', 'MÜLLER + SÖHNE AG', E'Mu\u0308ller & So\u0308hne']),
    ('strasse', ARRAY['Straße', 'STRASSE', 'STRAẞE']),
    ('loreal', ARRAY['L''Oréal', 'L’Oréal S.A.', 'Loreal']), ('jp morgan', ARRAY['J.P. Morgan', 'J. P. Morgan', 'JP Morgan']),
    ('maersk', ARRAY['Mærsk']), ('soestrene', ARRAY['Søstrene A/S', 'Söstrene']), ('ahlens', ARRAY['Åhléns AB']),
    ('zaklad lodz', ARRAY['Zakład Łódź', 'ZAKLAD LODZ Spółka z o.o.']), ('skoda', ARRAY['Škoda a.s.', 'SKODA']), ('sisecam', ARRAY['Şişecam A.Ş.', 'Sisecam']),
    ('romashka', ARRAY['ООО «Ромашка»', 'Ромашка, ООО', 'Romashka OOO']), ('yuzhnyy shchit', ARRAY['Южный Щит', 'ЗАО "ЮЖНЫЙ ЩИТ"']), ('kyiv', ARRAY['Kyiv', 'ТОВ Kyiv']),
    ('athina', ARRAY['Αθήνα', 'ΑΘΗΝΑ Α.Ε.', 'Αθηνα ΕΠΕ']), ('oudinou', ARRAY['Ουδινού', 'ΟΥΔΙΝΟΥ']), ('psychi', ARRAY['Ψυχή', 'ΨΥΧΗ']),
    ('トヨタ', ARRAY['株式会社トヨタ', 'トヨタ株式会社', '(株)トヨタ']), ('华为技术', ARRAY['华为技术有限公司']),
    ('vitamin e', ARRAY['Vitamin E S.A.', 'Vitamin E']), ('7 eleven', ARRAY['7-Eleven, Inc.']), ('at t', ARRAY['AT&T Inc.', 'AT & T']),
    -- what is nothing but a legal form is a name
    ('ag', ARRAY['AG']), ('limited', ARRAY['The Limited']), ('spa', ARRAY['S.p.A.'])
)
SELECT c.form, s AS spelling, leadroute.normalise_company(s) AS came FROM cases c, unnest(c.spellings) AS s
WHERE leadroute.normalise_company(s) IS DISTINCT FROM c.form;
SELECT n, leadroute.normalise_company(n) FROM unnest(ARRAY['', '   ', '…', '& Co.', NULL]) AS n;
-- names of any length and bytes
SELECT length(leadroute.normalise_company(repeat('ab ', 1000))), length(leadroute.normalise_company(repeat('ä', 250))), leadroute.normalise_company(repeat('ä', 10000)) IS NULL AS too_long, leadroute.normalise_company(repeat('& ', 5000));
-- a form is its own form
SELECT count(*) FROM generate_series(1, 1000) AS i, LATERAL (SELECT leadroute.normalise_company('Firma ' || i || ' ' || chr(192 + i % 190) || 'x GmbH & Co. KG')) AS f (form)
WHERE leadroute.normalise_company(form) <> form;

SELECT d, leadroute.normalise_domain(d) AS form, leadroute.domain_root(d) AS root
FROM unnest(ARRAY['acme.example', 'WWW.Acme.co.uk', 'https://eu.acme.com/about', 'bücher.de', 'acme.com.au', 'acme.de.', 'co.uk', 'gmail.com', 'mailinator.com', 'github.io',
                  'acme.github.io', 'sites.google.com', 'acme.onmicrosoft.com', 'x.io', 'no domain', '']) AS d;
SELECT p, c, leadroute.normalise_phone(p, c) FROM (VALUES ('030 / 1234567', 'DE'), ('030 / 1234567', 'de'), ('+49 30 1234567', NULL), ('030 1234567', NULL), ('x', 'DE'), (NULL, 'DE')) AS v (p, c);
SELECT p, leadroute.normalise_postcode(p) FROM unnest(ARRAY['D-10115', '10115', 'LV-1010', 'sw1a 1aa', 'SW1A1AA', '-']) AS p;
SELECT leadroute.company_similarity('Acme Widgets GmbH', 'ACME Widgets Ltd') AS same, leadroute.company_similarity('Acme Widgets', 'Acme Wigdets') AS misspelt,
       leadroute.company_similarity('Acme', 'Zeppelin') AS other, leadroute.company_similarity('', 'x') AS nothing;
