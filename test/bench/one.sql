-- One lead, as a web form would insert it, for pgbench. TABLE is replaced by the table's name; :serial starts at 0 in each client.
\set serial :serial + 1
\set country random(1, 10)
\set region random(1, 4)
\set a random(1, 26)
\set b random(1, 26)
\set c random(1, 26)
\set mail random(1, 100)
\set industry random(1, 8)
\set source random(1, 5)
\set size random(1, 8)
\set digits random(100, 199)
\set seats random(1, 500)
\set earlier random(0, 4)
\set consent random(1, 100)
INSERT INTO TABLE (external_id, source_system, source, country, region, language, industry, company, domain, company_size, email, phone,
                   consent, consent_basis, consent_at, prior_interactions, attributes)
SELECT 'F-' || :client_id || '-' || :serial, 'form', ('{web_form,event,partner,ads,referral}'::text[])[:source],
       ('{DE,US,GB,FR,CA,BR,AT,NL,CH,JP}'::text[])[:country],
       ('{{Berlin,Bayern,Hessen,Hamburg},{NY,CA,TX,WA},{London,Scotland,Wales,"North West"},{Paris,Lyon,Bretagne,Provence},{ON,QC,BC,AB},{SP,RJ,MG,RS},{Wien,Tirol,Salzburg,Graz},{Noord-Holland,Utrecht,Zeeland,Limburg},{ZH,BE,VD,GE},{Tokyo,Osaka,Kyoto,Aichi}}'::text[])[:country][:region],
       ('{de,en,en,fr,en,pt,de,nl,de,ja}'::text[])[:country],
       ('{software,manufacturing,retail,finance,health,education,logistics,energy}'::text[])[:industry],
       initcap(w) || ' Ltd', w || '.example', ('{3,15,40,180,450,1200,5000,NULL}'::integer[])[:size],
       CASE WHEN :mail <= 70 THEN 'ann' || '.' || w || '@' || w || '.example' WHEN :mail <= 90 THEN w || '.synthetic@gmail.com' WHEN :mail <= 95 THEN w || ' at ' || w END,
       '+1212555' || '0' || :digits, :consent <= 85, CASE WHEN :consent <= 80 THEN 'consent' END, now(), :earlier,
       jsonb_build_object('seats', :seats::integer, 'campaign', 'c' || :source)
FROM (SELECT s[:a] || s[:b] || s[:c] AS w
      FROM (SELECT '{an,ber,cor,da,el,fi,gra,ho,in,jo,ka,lu,mi,nor,os,pe,qui,ra,so,ta,ul,vi,wen,xa,yo,zu}'::text[] AS s) AS syllables) AS words;
