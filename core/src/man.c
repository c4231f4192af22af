/* man.c - chimera(1) in man(7) roff, from the tables that the program itself uses:
 * it cannot describe a flag or an option that does not exist.                    */
#include "cli.h"
#include "core.h"
#include "options.h"
#include "spec.h"

#include <stdlib.h>
#include <string.h>

/* Text with roff's own characters made harmless.  verbatim keeps lines as they are;
 * else an empty line begins a paragraph.                                        */
static void roff(FILE *f, const char *s, bool verbatim)
{
    bool start = true;
    for (; *s; s++) {
        if (start && *s == '\n') {
            if (!verbatim) fputs(".PP", f);
        } else if (start && (*s == '.' || *s == '\'')) fputs("\\&", f);
        if (start && *s == ' ' && !verbatim) continue;
        if (*s == '\\') fputs("\\e", f);
        else if (*s == '-') fputs("\\-", f);
        else if (*s == '~') fputs("\\(ti", f);
        else if (*s == '^') fputs("\\(ha", f);
        else if (*s == '`') fputs("\\(ga", f);
        else putc(*s, f);
        start = *s == '\n';
    }
    if (!start) putc('\n', f);
}

static void term(FILE *f, const char *bold, const char *rest)
{
    fputs(".TP\n\\fB", f);
    for (; *bold; bold++) fputs(*bold == '-' ? "\\-" : (char[2]){ *bold, 0 }, f);
    fputs("\\fR", f);
    if (rest && *rest) fprintf(f, " \\fI%s\\fR", rest);
    putc('\n', f);
}

static void verb_page(FILE *f, const struct verb *v)
{
    fprintf(f, ".SS chimera %s %s\n", v->name, v->usage);
    roff(f, v->summary, false);
    if (v->doc) {
        fputs(".PP\n", f);
        roff(f, v->doc, false);
    }
    for (const struct cli_flag *g = v->flags; g && g->name; g++) {
        char *name = g->letter ? xprintf("-%c, --%s", g->letter, g->name) : xprintf("--%s", g->name);
        term(f, name, g->value);
        roff(f, g->doc, false);
        free(name);
    }
    if (!v->examples) return;
    fputs(".PP\nExamples:\n.PP\n.nf\n", f);
    roff(f, v->examples, true);
    fputs(".fi\n", f);
}

static void option_page(FILE *f, const struct chi_option *o)
{
    char *range = o->type == CHI_OPT_REF ? xstrdup(o->choices ? o->choices : "") : option_range(o);
    char *text = xprintf("%s (%s%s%s%s%s).\n", o->doc ? o->doc : "", option_type_name(o), *range ? ", " : "",
                         range, o->flags & CHI_OPT_REQUIRED ? "; required" : o->fallback && *o->fallback
                         ? "; default " : "",
                         o->flags & CHI_OPT_REQUIRED || !o->fallback ? "" : o->fallback);
    term(f, o->name, NULL);
    roff(f, text, false);
    free(text);
    free(range);
}

static const char files[] =
    ".SH FILES\n"
    ".TP\n\\fIconf/*.ini\\fR\nConfigurations. Lines are \\fB[section]\\fR or \\fBkey = value\\fR; a line that\n"
    "begins with \\fB;\\fR or \\fB#\\fR is a comment, and so is what follows \" ;\" after a value.\n"
    "A value in double quotes may hold anything (\\fB\\e\\e \\e\" \\en \\et \\exHH\\fR); an indented line goes on with\n"
    "the value above it. \\fBinclude = FILE\\fR at the top reads another file first; its path, like all paths,\n"
    "is relative to the file that says it. What comes later wins: default, included file, file, command line.\n"
    "Whole numbers may end in k, M or G; lists are like 1, 2, 4\\-8; switches are yes or no.\n"
    ".TP\n\\fIRUN/config.ini\\fR\nThe resolved configuration of a run, with absolute paths.\n";

static const char tail[] =
    ".SH ENVIRONMENT\n"
    ".TP\n\\fBCHIMERA_PLUGIN_PATH\\fR\nFolders in which plugins are looked for, with colons between. "
    "The environment sets no option.\n"
    ".SH EXIT STATUS\n"
    ".TP\n0\nAll went well.\n.TP\n1\nThe run failed.\n.TP\n2\nThe command line or the configuration is wrong.\n"
    ".TP\n3\nData or a file is damaged.\n.TP\n4\nA plugin is missing or refused.\n"
    ".TP\n5\nMemory or disk is full.\n.TP\n128+n\nSignal n ended the program.\n";

void man_print(FILE *f, const struct verb *const *all, const struct core_section *sections)
{
    fputs(".TH CHIMERA 1 \"\" \"chimera " CHIMERA_VERSION "\" \"User Commands\"\n"
          ".SH NAME\nchimera \\- build, train and run recurrent language models from an INI file\n"
          ".SH SYNOPSIS\n\\fBchimera\\fR \\fIVERB\\fR \\fISUBJECT\\fR [\\fIsection.key=value\\fR ...] [\\fIflags\\fR]\n"
          ".SH DESCRIPTION\nA configuration names the components of a model, of its training and of its data,\n"
          "each with its options. A word \\fIsection.key=value\\fR changes an option for this call.\n"
          ".SH VERBS\n", f);
    for (; *all; all++) verb_page(f, *all);
    if (sections && sections->name) fputs(".SH OPTIONS OF THE CORE\n"
        "Plugins bring options of their own: \\fBchimera inspect\\fR \\fIPLUGIN\\fR shows them.\n", f);
    for (; sections && sections->name; sections++) {
        fprintf(f, ".SS [%s]\n", sections->name);
        if (sections->doc) roff(f, sections->doc, false);
        for (const struct chi_option *o = sections->table; o && o->name; o++) option_page(f, o);
    }
    fputs(files, f);
    fputs(tail, f);
}
