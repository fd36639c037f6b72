/*
 * facts.c: the names and types of what is known about a lead.
 */
#include "leadroute.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/jsonb.h"

const LrFactInfo lr_facts[LR_N_FACTS] = {
	[LR_EXTERNAL_ID] = {NULL, "external_id", TEXTOID},
	[LR_SOURCE_SYSTEM] = {NULL, "source_system", TEXTOID},
	[LR_SOURCE] = {NULL, "source", TEXTOID},
	[LR_COUNTRY] = {NULL, "country", TEXTOID},
	[LR_REGION] = {NULL, "region", TEXTOID},
	[LR_LANGUAGE] = {NULL, "language", TEXTOID},
	[LR_INDUSTRY] = {NULL, "industry", TEXTOID},
	[LR_COMPANY] = {NULL, "company", TEXTOID},
	[LR_DOMAIN] = {NULL, "domain", TEXTOID},
	[LR_COMPANY_SIZE] = {NULL, "company_size", INT4OID},
	[LR_EMAIL] = {NULL, "email", TEXTOID},
	[LR_PHONE] = {NULL, "phone", TEXTOID},
	[LR_CONSENT] = {NULL, "consent", BOOLOID},
	[LR_CONSENT_BASIS] = {NULL, "consent_basis", TEXTOID},
	[LR_CONSENT_AT] = {NULL, "consent_at", TIMESTAMPTZOID},
	[LR_CONSENT_CHANNELS] = {NULL, "consent_channels", TEXTARRAYOID},
	[LR_PRIOR_INTERACTIONS] = {NULL, "prior_interactions", INT4OID},
	[LR_ATTRIBUTES] = {NULL, "attributes", JSONBOID},
	[LR_RECEIVED_AT] = {NULL, "received_at", TIMESTAMPTZOID},
	[LR_TRACEPARENT] = {NULL, "traceparent", TEXTOID},
	[LR_AS_OF] = {NULL, "as_of", TIMESTAMPTZOID},
	[LR_CONTACT_STATUS] = {"validateContact", "status", TEXTOID},
	[LR_CONTACT_EMAIL] = {"validateContact", "email", TEXTOID},
	[LR_CONTACT_EMAIL_KIND] = {"validateContact", "email_kind", TEXTOID},
	[LR_CONTACT_ROLE] = {"validateContact", "role_address", BOOLOID},
	[LR_CONTACT_PHONE] = {"validateContact", "phone", TEXTOID},
	[LR_CONTACT_PROBLEMS] = {"validateContact", "problems", TEXTARRAYOID},
	[LR_COMPLIANCE_STATUS] = {"checkRegionalCompliance", "status", TEXTOID},
	[LR_COMPLIANCE_JURISDICTION] = {"checkRegionalCompliance", "jurisdiction", TEXTOID},
	[LR_COMPLIANCE_REASON] = {"checkRegionalCompliance", "reason", TEXTOID},
	[LR_COMPLIANCE_CHANNELS] = {"checkRegionalCompliance", "channels", TEXTARRAYOID},
	[LR_ENRICH_STATUS] = {"enrichWithFirmographicData", "status", TEXTOID},
	[LR_ENRICH_FILLED] = {"enrichWithFirmographicData", "filled", TEXTARRAYOID},
	[LR_SCORE] = {"computeLeadScore", "score", INT4OID},
	[LR_TIER] = {"computeLeadScore", "tier", TEXTOID},
	[LR_ACCOUNT_STATUS] = {"matchAccount", "status", TEXTOID},
	[LR_ACCOUNT_ID] = {"matchAccount", "account_id", TEXTOID},
	[LR_ACCOUNT_TYPE] = {"matchAccount", "type", TEXTOID},
	[LR_ACCOUNT_MATCH] = {"matchAccount", "match", TEXTOID},
	[LR_ACCOUNT_CONFIDENCE] = {"matchAccount", "confidence", INT4OID},
	[LR_ACCOUNT_OPEN_OPPORTUNITY] = {"matchAccount", "open_opportunity", BOOLOID},
	[LR_ACCOUNT_PARENT_ID] = {"matchAccount", "ultimate_parent_id", TEXTOID},
};

/* Appends a known fact's value as JSON, whatever the session's settings. */
void
lr_fact_to_json(StringInfo json, int fact, Datum value)
{
	Oid			type = fact < LR_N_FACTS ? lr_facts[fact].type : JSONBOID;

	switch (type)
	{
		case TEXTOID:
			escape_json(json, TextDatumGetCString(value));
			break;
		case INT4OID:
			appendStringInfo(json, "%d", DatumGetInt32(value));
			break;
		case BOOLOID:
			appendStringInfoString(json, DatumGetBool(value) ? "true" : "false");
			break;
		case TIMESTAMPTZOID:
			{
				char		buffer[MAXDATELEN + 1];
				int			utc = 0;

				appendStringInfo(json, "\"%s\"", JsonEncodeDateTime(buffer, value, TIMESTAMPTZOID, &utc));
				break;
			}
		case TEXTARRAYOID:
			{
				Datum	   *elements;
				bool	   *nulls;
				int			n;

				deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
				appendStringInfoChar(json, '[');
				for (int i = 0; i < n; i++)
				{
					appendStringInfoString(json, i ? ", " : "");
					if (nulls[i])
						appendStringInfoString(json, "null");
					else
						escape_json(json, TextDatumGetCString(elements[i]));
				}
				appendStringInfoChar(json, ']');
				break;
			}
		case JSONBOID:
			{
				Jsonb	   *jsonb = DatumGetJsonbP(value);

				(void) JsonbToCString(json, &jsonb->root, VARSIZE(jsonb));
				break;
			}
		default:
			elog(ERROR, "fact %d has an unexpected type", fact);
	}
}
