/*
 * json.h: reading documents with jansson, and collecting what is wrong with them.
 */
#ifndef LR_JSON_H
#define LR_JSON_H

#include "leadroute.h"

/*
 * The server exports a function json_object of its own, declared in fmgrprotos.h, and a call from here would reach that one.
 * jansson's constructor of that name is never called: json_pack("{}") makes an object.
 */
#include "utils/fmgrprotos.h"
#define json_object lr_json_object_of_jansson
#include <jansson.h>
#undef json_object

/* Everything wrong with a document, each with its place, so that an author sees all of it at once. */
typedef struct LrMistake
{
	char	   *place;
	char	   *problem;
	char	   *hint;			/* or NULL */
} LrMistake;

typedef struct LrMistakes
{
	List	   *list;			/* of LrMistake */
} LrMistakes;

extern json_t *lr_json_of_jsonb(Datum document);
extern char *lr_json_text(json_t *json);
extern void lr_mistake(LrMistakes *mistakes, const char *place, const char *hint, const char *problem, ...) __attribute__((format(printf, 4, 5)));
extern void lr_mistakes_raise(const LrMistakes *mistakes, const char *what);
extern void lr_mistakes_raise_hint(const LrMistakes *mistakes, const char *what, const char *hint);
extern char *lr_place(const char *parent, const char *member);
extern char *lr_place_at(const char *parent, int index);

/* Members of an object, checked; a mistake is noted and the default returned. */
extern bool lr_json_has(json_t *object, const char *member);
extern const char *lr_json_string(json_t *object, const char *member, bool required, const char *place, LrMistakes *mistakes);
extern bool lr_json_number(json_t *object, const char *member, double lowest, double highest, double *value, const char *place,
						   LrMistakes *mistakes);
extern bool lr_json_boolean(json_t *object, const char *member, bool otherwise, const char *place, LrMistakes *mistakes);
extern json_t *lr_json_array(json_t *object, const char *member, bool required, const char *place, LrMistakes *mistakes);
extern json_t *lr_json_object(json_t *object, const char *member, bool required, const char *place, LrMistakes *mistakes);
extern void lr_json_known_members(json_t *object, const char *const *known, const char *place, LrMistakes *mistakes);

#endif
