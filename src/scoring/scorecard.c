/*
 * scorecard.c: the agent computeLeadScore: points by a scorecard, with the reason for every point.
 *
 * A scorecard has characteristics, each with bins in order; the first bin whose condition holds gives its points, otherwise
 * the characteristic gives what "otherwise" says. The score is the base and all points, kept within minimum and maximum; the
 * first tier whose lower bound it reaches names it. The record holds which bin of which characteristic was taken, so every
 * point has its reason. (N. Siddiqi: Credit Risk Scorecards, Wiley 2006, describes the form.)
 */
#include "scoring/scoring.h"

#include "agents/agents.h"
#include "pipeline/pipeline.h"
#include "policy/policy.h"
#include "provenance/provenance.h"
#include "utils/builtins.h"
#include "utils/json.h"

typedef struct Bin
{
	LrCondition *when;
	int			points;
} Bin;

typedef struct Characteristic
{
	char	   *code;
	int			nbins;
	Bin		   *bins;
	int			otherwise;
} Characteristic;

typedef struct Tier
{
	char	   *name;
	double		from;
} Tier;

typedef struct Scorecard
{
	int			base;
	int			minimum;
	int			maximum;
	int			ncharacteristics;
	Characteristic *characteristics;
	int			ntiers;
	Tier	   *tiers;			/* from the highest */
	Bitmapset  *reads;
	List	   *keys;
	List	   *types;
	bool		reads_all_keys;
	bool		may_raise;
	bool		timezone_matters;
	json_t	   *justifications;
} Scorecard;

static void configure(LrStep *step, json_t *json, json_t *document, const LrScope *scope, const char *place, LrMistakes *mistakes);
static void run(LrStep *step, LrRun *run);
static void unfold(const LrStep *step, const char *detail, int length, StringInfo json);
static void restore(const LrStep *step, LrRun *run, const char *detail, int length);
static Scorecard *read_scorecard(json_t *document, const LrScope *scope, LrMistakes *mistakes);
static void read_characteristic(Scorecard *card, json_t *json, const LrScope *scope, const char *place, LrMistakes *mistakes);
static void read_bin(Scorecard *card, Characteristic *characteristic, json_t *json, const LrScope *scope, const char *place, LrMistakes *mistakes);
static void read_tiers(Scorecard *card, json_t *tiers, LrMistakes *mistakes);
static int	points_member(json_t *json, const char *member, int otherwise, const char *place, LrMistakes *mistakes);

const LrBuiltin lr_compute_score = {
	.capability = "computeLeadScore",
	.agent_id = 4,
	.first_fact = LR_SCORE,
	.nfacts = LR_N_FACTS - LR_SCORE,
	.document_kind = "scorecard",
	.recomputable = true,
	.repeatable = true,
	.configure = configure,
	.run = run,
	.unfold = unfold,
	.restore = restore,
};

/*
 * Notes what is wrong with a scorecard, conditions and what they may not read included. SQL agents' outputs are known to a
 * policy only.
 */
void
lr_scorecard_check(json_t *document, LrMistakes *mistakes)
{
	Scorecard  *card = read_scorecard(document, lr_scope_make(NULL, 0, "UTC"), mistakes);

	lr_check_protected_model(card->reads, card->keys, card->reads_all_keys, card->justifications, "scorecard", mistakes);
}

static void
configure(LrStep *step, json_t *json, json_t *document, const LrScope *scope, const char *place, LrMistakes *mistakes)
{
	Scorecard  *card;

	if (document == NULL)
		return;
	card = read_scorecard(document, scope, mistakes);
	step->config = card;
	step->reads = bms_add_members(step->reads, card->reads);
	step->keys = card->keys;
	step->types = card->types;
	step->reads_all_keys = card->reads_all_keys;
	step->timezone_matters = card->timezone_matters;
	step->may_raise = card->may_raise;
}

static Scorecard *
read_scorecard(json_t *document, const LrScope *scope, LrMistakes *mistakes)
{
	static const char *const members[] = {"description", "base", "minimum", "maximum", "characteristics", "tiers", "justifications", NULL};
	Scorecard  *card = palloc0(sizeof(Scorecard));
	json_t	   *list;

	if (!json_is_object(document))
	{
		lr_mistake(mistakes, "document", "Give {\"characteristics\": […]}.", "has to be an object");
		return card;
	}
	lr_json_known_members(document, members, "", mistakes);
	card->justifications = lr_read_justifications(document, mistakes);
	card->base = points_member(document, "base", 0, "", mistakes);
	card->minimum = points_member(document, "minimum", 0, "", mistakes);
	card->maximum = points_member(document, "maximum", 100, "", mistakes);
	if (card->minimum >= card->maximum)
		lr_mistake(mistakes, "maximum", NULL, "has to be more than the minimum");
	list = lr_json_array(document, "characteristics", true, "", mistakes);
	card->characteristics = palloc0(sizeof(Characteristic) * Max(list ? json_array_size(list) : 0, 1));
	for (int i = 0; list && i < (int) json_array_size(list); i++)
		read_characteristic(card, json_array_get(list, i), scope, lr_place_at("characteristics", i), mistakes);
	read_tiers(card, lr_json_array(document, "tiers", false, "", mistakes), mistakes);
	return card;
}

static void
read_characteristic(Scorecard *card, json_t *json, const LrScope *scope, const char *place, LrMistakes *mistakes)
{
	static const char *const members[] = {"code", "bins", "otherwise", "note", NULL};
	Characteristic *characteristic = &card->characteristics[card->ncharacteristics++];
	const char *code;
	json_t	   *bins;

	characteristic->code = "";
	if (!json_is_object(json))
	{
		lr_mistake(mistakes, place, "Give {\"code\": \"…\", \"bins\": […]}.", "has to be an object");
		return;
	}
	lr_json_known_members(json, members, place, mistakes);
	code = lr_json_string(json, "code", true, place, mistakes);
	if (code)
		characteristic->code = pstrdup(code);
	for (int i = 0; code && i < card->ncharacteristics - 1; i++)
	{
		if (strcmp(card->characteristics[i].code, code) == 0)
			lr_mistake(mistakes, lr_place(place, "code"), NULL, "\"%s\" is taken by characteristics[%d]", code, i);
	}
	characteristic->otherwise = points_member(json, "otherwise", 0, place, mistakes);
	bins = lr_json_array(json, "bins", true, place, mistakes);
	characteristic->bins = palloc0(sizeof(Bin) * Max(bins ? json_array_size(bins) : 0, 1));
	for (int i = 0; bins && i < (int) json_array_size(bins); i++)
		read_bin(card, characteristic, json_array_get(bins, i), scope, lr_place_at(lr_place(place, "bins"), i), mistakes);
}

static void
read_bin(Scorecard *card, Characteristic *characteristic, json_t *json, const LrScope *scope, const char *place, LrMistakes *mistakes)
{
	static const char *const members[] = {"when", "points", "note", NULL};
	Bin		   *bin = &characteristic->bins[characteristic->nbins];
	const char *when;

	if (!json_is_object(json))
	{
		lr_mistake(mistakes, place, "Give {\"when\": \"…\", \"points\": …}.", "has to be an object");
		return;
	}
	lr_json_known_members(json, members, place, mistakes);
	if (json_object_get(json, "points") == NULL)
		lr_mistake(mistakes, lr_place(place, "points"), "Give a whole number.", "is missing");
	bin->points = points_member(json, "points", 0, place, mistakes);
	when = lr_condition_member(json, place, mistakes);
	bin->when = when ? lr_condition_parse(when, scope, lr_place(place, "when"), mistakes) : NULL;
	if (bin->when == NULL)
		return;
	characteristic->nbins++;
	card->reads = bms_add_members(card->reads, bin->when->reads);
	card->keys = list_concat(card->keys, bin->when->keys);
	card->types = list_concat_unique_oid(card->types, bin->when->types);
	card->reads_all_keys |= bin->when->reads_all_keys;
	card->timezone_matters |= bin->when->timezone_matters;
	card->may_raise |= bin->when->may_raise;
}

static void
read_tiers(Scorecard *card, json_t *tiers, LrMistakes *mistakes)
{
	static const char *const members[] = {"tier", "from", NULL};

	card->tiers = palloc0(sizeof(Tier) * Max(tiers ? json_array_size(tiers) : 0, 1));
	for (int i = 0; tiers && i < (int) json_array_size(tiers); i++)
	{
		json_t	   *json = json_array_get(tiers, i);
		char	   *place = lr_place_at("tiers", i);
		Tier	   *tier = &card->tiers[card->ntiers];
		const char *name;

		if (!json_is_object(json))
		{
			lr_mistake(mistakes, place, "Give {\"tier\": \"A\", \"from\": 70}.", "has to be an object");
			continue;
		}
		lr_json_known_members(json, members, place, mistakes);
		name = lr_json_string(json, "tier", true, place, mistakes);
		if (!lr_json_number(json, "from", -1e6, 1e6, &tier->from, place, mistakes) && json_object_get(json, "from") == NULL)
			lr_mistake(mistakes, lr_place(place, "from"), NULL, "is missing");
		if (card->ntiers > 0 && tier->from >= card->tiers[card->ntiers - 1].from)
			lr_mistake(mistakes, lr_place(place, "from"), "List the tiers from the highest.", "has to be less than that of the tier before");
		if (name == NULL)
			continue;
		tier->name = pstrdup(name);
		card->ntiers++;
	}
}

static int
points_member(json_t *json, const char *member, int otherwise, const char *place, LrMistakes *mistakes)
{
	double		points = otherwise;

	(void) lr_json_number(json, member, -1e6, 1e6, &points, place, mistakes);
	if (points != (int) points)
		lr_mistake(mistakes, lr_place(place, member), NULL, "has to be a whole number");
	return (int) points;
}

static void
run(LrStep *step, LrRun *run)
{
	const Scorecard *card = step->config;
	LrEvaluator *evaluator = run->batch->policy->evaluator;
	StringInfo	detail = lr_detail_make();
	int64		score = card->base;
	const char *tier = NULL;

	for (int c = 0; c < card->ncharacteristics; c++)
	{
		const Characteristic *characteristic = &card->characteristics[c];
		int			points = characteristic->otherwise;
		int			taken = 0;

		for (int b = 0; b < characteristic->nbins && taken == 0; b++)
		{
			LrConditionError error;
			LrTruth		truth = lr_condition_evaluate(characteristic->bins[b].when, evaluator, run->values, run->isnull, &error);

			if (truth == LR_ERROR)
			{
				lr_run_fail(run, step, error.sqlstate, characteristic->code);
				return;
			}
			if (truth == LR_TRUE)
			{
				points = characteristic->bins[b].points;
				taken = b + 1;
			}
		}
		score += points;
		lr_put_varint(detail, taken);
	}
	score = Min(Max(score, card->minimum), card->maximum);
	for (int i = 0; i < card->ntiers && tier == NULL; i++)
	{
		if (score >= card->tiers[i].from)
			tier = card->tiers[i].name;
	}
	run->steps[step->number].detail = detail;
	lr_run_set(run, LR_SCORE, Int32GetDatum((int32) score));
	lr_run_set_text(run, LR_TIER, tier);
}

/* Says which bin of each characteristic gave how many points. */
static void
unfold(const LrStep *step, const char *detail, int length, StringInfo json)
{
	const Scorecard *card = step->config;
	LrReader	in = {detail, detail + length};

	appendStringInfo(json, ", \"base\": %d, \"reasons\": [", card->base);
	for (int c = 0; c < card->ncharacteristics; c++)
	{
		const Characteristic *characteristic = &card->characteristics[c];
		int			taken = (int) lr_get_varint(&in);

		if (taken < 0 || taken > characteristic->nbins)
			break;
		appendStringInfo(json, "%s{\"code\": ", c ? ", " : "");
		escape_json(json, characteristic->code);
		appendStringInfo(json, ", \"points\": %d", taken ? characteristic->bins[taken - 1].points : characteristic->otherwise);
		if (taken)
		{
			appendStringInfoString(json, ", \"because\": ");
			escape_json(json, characteristic->bins[taken - 1].when->text);
		}
		appendStringInfoChar(json, '}');
	}
	appendStringInfoChar(json, ']');
}

static void
restore(const LrStep *step, LrRun *run, const char *detail, int length)
{
	run->steps[step->number].detail = lr_detail_make();
	appendBinaryStringInfo(run->steps[step->number].detail, detail, length);
}
