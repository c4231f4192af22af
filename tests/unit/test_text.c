/* text: what it takes for a corpus and what it refuses.                              */
#include <chimera/data.h>
#include <chimera/plugin.h>
#include <criterion/criterion.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core.h"
#include "fake_host.h"
#include "files.h"
#include "fs.h"
#include "scratch.h"

extern const struct chi_plugin chimera_plugin_text;
struct conf { const char *train, *heldout; bool binary; };

static char dir[SCRATCH_SIZE];
static void *self;

static const void *service(const struct chi_host *h, const char *id)
{
    (void)h;
    return strcmp(id, "chimera.files/1") ? NULL : &files_service;
}

static const char *at(const char *name)
{
    return xprintf("%s/%s", dir, name);
}

static void put(const char *name, const char *bytes, size_t n)
{
    FILE *f = fopen(at(name), "w");
    fwrite(bytes, 1, n, f);
    fclose(f);
}

static void begin(void)
{
    make_scratch(dir);
    mkdir(at("t"), 0700);
    mkdir(at("t/b"), 0700);
    mkdir(at("none"), 0700);
    put("t/c", "third", 5);
    put("t/a", "first", 5);
    put("t/b/x", "second", 6);
    put("h", "held out", 8);
    put("empty", "", 0);
    put("one", "1", 1);
    put("nul", "ab\0c", 4);
}

static void end(void)
{
    fs_remove_tree(dir);
}

TestSuite(text, .init = begin, .fini = end);

static chi_status open_text(const char *train, const char *heldout, bool binary)
{
    struct chi_host h = fake_host();
    const struct chi_task_ops *ops = chimera_plugin_text.components[0]->ops;
    struct conf c = { train, heldout, binary };
    h.service = service;
    fake_failure[0] = 0;
    self = calloc(1, ops->self_size);
    return ops->open(&h, self, &c);
}

static void refused(const char *train, const char *heldout, chi_status s, const char *word)
{
    cr_assert_eq(open_text(train, heldout, false), s, "%s", fake_failure);
    cr_assert(strstr(fake_failure, word), "'%s' is not in: %s", word, fake_failure);
    cr_assert(!strchr(fake_failure, '\n'));
}

Test(text, a_folder_is_its_files_in_order)
{
    static const char *const want[] = { "first", "second", "third" };
    const struct chi_task_ops *ops = chimera_plugin_text.components[0]->ops;
    struct chi_document d;
    cr_assert_eq(open_text(at("t"), at("h"), false), CHI_OK, "%s", fake_failure);
    cr_assert_eq(ops->documents(self, CHI_SPLIT_TRAIN), 3);
    cr_assert_eq(ops->documents(self, CHI_SPLIT_HELDOUT), 1);
    for (int i = 0; i < 3; i++) {
        ops->document(self, CHI_SPLIT_TRAIN, i, &d);
        cr_assert_eq(d.n, (int64_t)strlen(want[i]));
        cr_assert(!memcmp(d.text, want[i], (size_t)d.n));
    }
    ops->document(self, CHI_SPLIT_HELDOUT, 0, &d);
    cr_assert(!memcmp(d.text, "held out", 8));
}

Test(text, refuses_what_cannot_be_meant)
{
    refused("", at("h"), CHI_ECONF, "train is not set");
    refused(at("missing"), at("h"), CHI_EDATA, "No such file");
    refused(at("none"), at("h"), CHI_EDATA, "no files");
    refused(at("empty"), at("h"), CHI_EDATA, "empty");
    refused(at("t"), at("empty"), CHI_EDATA, "heldout");
    refused(at("one"), at("h"), CHI_EDATA, "one byte of text is too small a corpus to train on");
    refused(at("t"), at("one"), CHI_EDATA, "one byte of text is too small a corpus to measure on");
    refused(at("nul"), at("h"), CHI_EDATA, "byte 2 is NUL");
    refused(at("h"), at("h"), CHI_EDATA, "cannot be held out");
    refused(at("t"), at("t/b/x"), CHI_EDATA, "cannot be held out");
}

Test(text, binary_data_if_asked_for)
{
    cr_assert_eq(open_text(at("nul"), at("h"), true), CHI_OK, "%s", fake_failure);
}
