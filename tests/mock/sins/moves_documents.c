/* moves_documents.c - a task that keeps its documents in a place where it next needs room.        */
#include <chimera/data.h>
#include <chimera/plugin.h>
#include <string.h>
static unsigned char room[2][64];
static int turn;
static chi_status open(const struct chi_host *h, void *self, const void *conf) { (void)h, (void)self,
                                                                                 (void)conf; return CHI_OK; }
static int64_t documents(const void *self, int split) { (void)self, (void)split; return 3; }
static void document(const void *self, int split, int64_t i, struct chi_document *d)
{
    (void)self;
    turn = !turn;
    memset(room[turn], 'a' + (int)i + 3 * split, sizeof room[turn]);
    *d = (struct chi_document){ .name = "a text", .text = room[turn], .n = 20 + i };
}
static const struct chi_task_ops ops = { .struct_size = sizeof ops, .open = open, .documents = documents,
                                         .document = document };
static const struct chi_component moves_documents = {
    .struct_size = sizeof moves_documents, .kind = CHI_TASK, .name = "moves_documents", .revision = 1,
    .summary = "texts that move", .ops = &ops,
};
CHI_PLUGIN(moves_documents, .version = "1.0", .license = "MIT", .summary = "texts that move",
           .components = CHI_COMPONENTS(&moves_documents));
