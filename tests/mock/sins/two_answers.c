/* two_answers.c - a task with questions of which both choices are right.                              */
#include <chimera/data.h>
#include <chimera/plugin.h>
static const char text[2][4][8] = { { "a b", "a c", "d e", "d f" }, { "g h", "g i", "j k", "j l" } };
static chi_status open(const struct chi_host *h, void *self, const void *conf) { (void)h, (void)self,
                                                                                 (void)conf; return CHI_OK; }
static int64_t documents(const void *self, int split) { (void)self, (void)split; return 4; }
static void document(const void *self, int split, int64_t i, struct chi_document *d)
{
    (void)self;
    *d = (struct chi_document){ .name = "a line", .text = (const unsigned char *)text[split][i], .n = 3 };
}
static const char *slice(const void *self, int64_t i) { (void)self, (void)i; return NULL; }
static void choice(const void *self, int64_t i, struct chi_choice *c)
{
    (void)self;
    *c = (struct chi_choice){ .question = i / 2, .context = 1, .bytes = 1, .slice = -1, .right = i > 0 };
}
static const struct chi_task_ops ops = {
    .struct_size = sizeof ops, .open = open, .documents = documents, .document = document, .slice = slice,
        .choice = choice,
};
static const struct chi_component two_answers = {
    .struct_size = sizeof two_answers, .kind = CHI_TASK, .name = "two_answers", .revision = 1,
    .summary = "questions with two answers", .ops = &ops,
};
CHI_PLUGIN(two_answers, .version = "1.0", .license = "MIT", .summary = "questions with two answers",
           .components = CHI_COMPONENTS(&two_answers));
