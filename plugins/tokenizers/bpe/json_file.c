/* json_file.c - see json_file.h.  Each pre-tokenizer cuts the pieces of the one before it, so they are a
 * list of steps; a Split whose expression is one of split.c's rules takes that.                          */
#include "json_file.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "regex.h"

chi_status json_open(struct json_file *f, const struct chi_host *h, const char *path)
{
    const unsigned char *bytes;
    const struct chi_json *json = h->service(h, "chimera.json/1");
    *f = (struct json_file){ .h = h, .name = path };
    if (!json) return h->fail(h, CHI_ENOTSUP, "this program has no JSON service (chimera.json/1)");
    chi_status s = bpe_read_file(h, path, &bytes, &f->n);
    if (s == CHI_OK) s = json->parse(h, path, (const char *)bytes, f->n, &f->root);
    if (s == CHI_OK && f->root->type != CHI_JSON_OBJECT) return json_refuse(f, "it is no object");
    return s;
}

chi_status json_refuse(const struct json_file *f, const char *fmt, ...)
{
    char text[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    for (char *c = text; *c; c++)               /* a token may have a line's end: one message, one line */
        if ((unsigned char)*c < ' ' || *c == 127) *c = '?';
    return f->h->fail(f->h, CHI_EDATA, "%s: %s", f->name, text);
}

const struct chi_json_value *json_member(const struct chi_json_value *v, const char *key)
{
    for (int64_t i = 0; v && v->type == CHI_JSON_OBJECT && i < v->n; i++)
        if (!strcmp(v->item[i].key, key)) return &v->item[i];
    return NULL;
}

bool json_yes(const struct chi_json_value *v, const char *key)
{
    const struct chi_json_value *b = json_member(v, key);
    return b && b->type == CHI_JSON_BOOL && b->number != 0;
}

const char *json_type(const struct chi_json_value *v)
{
    const struct chi_json_value *t = json_member(v, "type");
    return t && t->type == CHI_JSON_TEXT ? t->text : "without a type";
}

bool json_is(const struct chi_json_value *v, const char *type)
{
    return !strcmp(json_type(v), type);
}

/* ---- pre-tokenizers -------------------------------------------------------------------------- */

#define SUFFIX "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define REST   "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
static const struct { const char *pattern; int rule; } known[] = {
    { "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", SPLIT_GPT2 },
    { SUFFIX "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" REST, SPLIT_CL100K },
    { SUFFIX "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" REST, SPLIT_QWEN2 },
    { "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+" SUFFIX "?|"
      "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*" SUFFIX "?|"
      "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" REST, SPLIT_O200K },
};

static chi_status add_step(const struct json_file *f, struct encoder *e, struct step s)
{
    if (e->n_step == STEPS_MAX) return json_refuse(f, "more than %d pre-tokenizers", STEPS_MAX);
    e->step[e->n_step++] = s;
    return CHI_OK;
}

static chi_status byte_level(const struct json_file *f, struct encoder *e, const struct chi_json_value *v)
{
    if (json_yes(v, "add_prefix_space"))
        return json_refuse(f,
                           "pre_tokenizer ByteLevel has add_prefix_space, which changes the text and is not known");
    if (json_member(v, "use_regex") && !json_yes(v, "use_regex")) return CHI_OK;
    return add_step(f, e, (struct step){ .kind = STEP_RULE, .rule = SPLIT_GPT2 });
}

/* Isolated also stands for Removed with invert, which keeps the matches: with expressions that match
 * everything that is the same                                                                         */
static chi_status behaviour(const struct json_file *f, const struct chi_json_value *v, int *cut)
{
    static const char *const name[] = { "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous" };
    const struct chi_json_value *b = json_member(v, "behavior");
    bool invert = json_yes(v, "invert");
    const char *word = b && b->type == CHI_JSON_TEXT ? b->text : "missing";
    if (invert && !strcmp(word, "Removed")) word = "Isolated";
    for (*cut = 0; *cut < 4 && strcmp(word, name[*cut]) != 0; ++*cut) continue;
    if (*cut == 4 || (invert && *cut != CUT_ISOLATED))
        return json_refuse(f, "pre_tokenizer %s has behavior %s%s, which is not known", json_type(v), word,
                           invert ? " with invert" : "");
    return CHI_OK;
}

static chi_status split(const struct json_file *f, struct encoder *e, const struct chi_json_value *v)
{
    const struct chi_json_value *p = json_member(v, "pattern"), *regex = json_member(p, "Regex"),
        *text = json_member(p, "String");
    struct step s = { .kind = STEP_REGEX };
    chi_status st = behaviour(f, v, &s.cut);
    if (st != CHI_OK) return st;
    if (text && text->type == CHI_JSON_TEXT && text->n) {
        s.kind = STEP_TEXT;
        s.text = text->text;
        s.n = text->n;
    } else if (regex && regex->type == CHI_JSON_TEXT) {
        for (size_t i = 0; s.cut == CUT_ISOLATED && i < sizeof known / sizeof *known; i++)
            if (!strcmp(regex->text, known[i].pattern)) {
                s.kind = STEP_RULE;
                s.rule = known[i].rule;
            }
        if (s.kind == STEP_REGEX) {
            s.text = regex->text;
            s.n = regex->n;
        }
        if (s.kind == STEP_REGEX && (st = bpe_regex_open(f->h, f->name, regex->text, &s.code)) != CHI_OK) return st;
    } else {
        return json_refuse(f, "pre_tokenizer Split has neither a Regex nor a String as its pattern");
    }
    return add_step(f, e, s);
}

static chi_status one(const struct json_file *f, struct encoder *e, const struct chi_json_value *v, bool *bytes)
{
    if (*bytes) return json_refuse(f, "pre_tokenizer %s stands behind ByteLevel, which is not known", json_type(v));
    if (json_is(v, "ByteLevel")) {
        *bytes = true;
        return byte_level(f, e, v);
    }
    if (json_is(v, "Split")) return split(f, e, v);
    if (json_is(v, "Digits"))
        return add_step(f, e, (struct step){ .kind = STEP_DIGITS,
                                             .cut = json_yes(v, "individual_digits") ? CUT_ISOLATED
                                             : CUT_CONTIGUOUS });
    return json_refuse(f, "pre_tokenizer %s is not known; known are ByteLevel, Split, Digits and a Sequence of them",
                       json_type(v));
}

chi_status json_steps(const struct json_file *f, struct encoder *e)
{
    const struct chi_json_value *v = json_member(f->root, "pre_tokenizer"), *list = NULL;
    bool bytes = false;
    chi_status s = CHI_OK;
    if (!v || v->type == CHI_JSON_NULL)
        return json_refuse(f, "it has no pre_tokenizer, wanted is one with ByteLevel");
    if (json_is(v, "Sequence")) list = json_member(v, "pretokenizers");
    if (list && list->type != CHI_JSON_LIST) list = NULL;
    if (!list) s = one(f, e, v, &bytes);
    for (int64_t i = 0; list && i < list->n && s == CHI_OK; i++) s = one(f, e, &list->item[i], &bytes);
    if (s == CHI_OK && !bytes)
        return json_refuse(f, "its pre_tokenizer has no ByteLevel: the vocabulary is not one of bytes");
    return s;
}
