/* manifest_ops.c - which members of its table each kind of component must fill in.
 *
 * Tables grow at their end, so a plugin's may be shorter than ours, but never so short
 * that a required member is missing, and never longer.                          */
#include "core.h"
#include "plugin_file.h"
#include "registry.h"

#include <chimera/data.h>
#include <chimera/format.h>
#include <chimera/loop.h>
#include <chimera/train.h>
#include <string.h>

struct need { const char *name; bool filled; };

static chi_status refuse(const char *file, const struct chi_component *c, const char *member)
{
    return fail(CHI_EPLUGIN, "%s: %s %s: required member %s of its ops is missing - fill it in", file,
                kind_name(c->kind), c->name, member);
}

static chi_status check(const char *file, const struct chi_component *c, const struct need *need, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!need[i].filled) return refuse(file, c, need[i].name);
    return CHI_OK;
}

static chi_status sized(const char *file, const struct chi_component *c, uint32_t least, size_t most)
{
    uint32_t size;
    memcpy(&size, c->ops, sizeof size); /* every table begins with it            */
    if (size >= least && size <= most) return CHI_OK;
    return fail(CHI_EPLUGIN, "%s: %s %s: struct_size of its ops is %u, wanted %zu - set .struct_size = sizeof ops"
                " and rebuild it", file, kind_name(c->kind), c->name, size, most);
}

/* The shortest table that a kind may have ends with this member                 */
#define LEAST(T, m) (uint32_t)(offsetof(struct T, m) + sizeof(((struct T *)0)->m))
#define FILLED(m)   { #m, o->m != 0 }

static chi_status layer(const char *file, const struct chi_component *c)
{
    const struct chi_layer_ops *o = c->ops;
    TRY(sized(file, c, LEAST(chi_layer_ops, backward), sizeof *o));
    const struct need need[] = {
        FILLED(open), FILLED(forward), { "backward", o->backward || (c->caps & CHI_LAYER_NO_GRAD) }
    };
    return check(file, c, need, COUNT(need));
}

static chi_status linear_kernel(const char *file, const struct chi_component *c, const struct chi_linear_kernel *k)
{
    if (k->struct_size != sizeof *k)
        return fail(CHI_EPLUGIN, "%s: %s %s: struct_size of a linear kernel is %u, wanted %zu - rebuild it", file,
                    kind_name(c->kind), c->name, k->struct_size, sizeof *k);
    if (!k->encoding || !*k->encoding) return refuse(file, c, "encoding (of a linear kernel)");
    if (!k->run) return refuse(file, c, "run (of a linear kernel)");
    if (!k->pack != !k->pack_bytes) return refuse(file, c, k->pack ? "pack_bytes (of a linear kernel)"
                                                  : "pack (of a linear kernel)");
    return CHI_OK;
}

static chi_status backend(const char *file, const struct chi_component *c)
{
    const struct chi_backend_ops *o = c->ops;
    TRY(sized(file, c, LEAST(chi_backend_ops, linears), sizeof *o));
    if (!o->kernels && !o->linears) return refuse(file, c, "kernels or linears");
    if (o->kernels && (o->kernels->struct_size < sizeof(uint32_t) || o->kernels->struct_size > sizeof *o->kernels))
        return fail(CHI_EPLUGIN, "%s: %s %s: struct_size of its kernels is %u, wanted %zu - rebuild it", file,
                    kind_name(c->kind), c->name, o->kernels->struct_size, sizeof *o->kernels);
    for (int i = 0; o->linears && o->linears[i]; i++) TRY(linear_kernel(file, c, o->linears[i]));
    return CHI_OK;
}

static chi_status quantizer(const char *file, const struct chi_component *c)
{
    const struct chi_quantizer_ops *o = c->ops;
    TRY(sized(file, c, LEAST(chi_quantizer_ops, quantize), sizeof *o));
    const struct need need[] = { FILLED(values), FILLED(group), FILLED(quantize) };
    return check(file, c, need, COUNT(need));
}

static chi_status encoding(const char *file, const struct chi_component *c)
{
    const struct chi_encoding_ops *o = c->ops;
    TRY(sized(file, c, LEAST(chi_encoding_ops, portable), sizeof *o));
    const struct need need[] = {
        FILLED(values), FILLED(bytes), FILLED(encode), FILLED(decode), FILLED(portable)
    };
    TRY(check(file, c, need, COUNT(need)));
    return linear_kernel(file, c, o->portable);
}

static chi_status objective(const char *file, const struct chi_component *c)
{
    const struct chi_objective_ops *o = c->ops;
    TRY(sized(file, c, LEAST(chi_objective_ops, loss), sizeof *o));
    const struct need need[] = { FILLED(loss) };
    return check(file, c, need, COUNT(need));
}

static chi_status optimizer(const char *file, const struct chi_component *c)
{
    const struct chi_optimizer_ops *o = c->ops;
    TRY(sized(file, c, LEAST(chi_optimizer_ops, update), sizeof *o));
    const struct need need[] = { FILLED(update), { "moment_names", o->moment_names || !o->moments } };
    TRY(check(file, c, need, COUNT(need)));
    if (o->moments < 0 || o->moments > 2)
        return fail(CHI_EPLUGIN, "%s: optimizer %s: moments is %d, wanted 0..2", file, c->name, o->moments);
    for (int i = 0; i < o->moments; i++)
        if (!o->moment_names[i] || !*o->moment_names[i]) return refuse(file, c, "moment_names (one for each moment)");
    return CHI_OK;
}

static chi_status tokenizer(const char *file, const struct chi_component *c)
{
    const struct chi_tokenizer_ops *o = c->ops;
    TRY(sized(file, c, LEAST(chi_tokenizer_ops, decode), sizeof *o));
    const struct need need[] = {
        FILLED(open), FILLED(vocab), FILLED(end), FILLED(encode), FILLED(decode)
    };
    return check(file, c, need, COUNT(need));
}

static chi_status task(const char *file, const struct chi_component *c)
{
    const struct chi_task_ops *o = c->ops;
    TRY(sized(file, c, LEAST(chi_task_ops, document), sizeof *o));
    bool examples = CHI_HAS(struct chi_task_ops, o, example);
    const struct need documents[] = { FILLED(open), FILLED(documents), FILLED(document) };
    if (!examples) TRY(check(file, c, documents, COUNT(documents)));
    if (!examples && CHI_HAS(struct chi_task_ops, o, choice) && !o->slice)
        return refuse(file, c, "slice (with choice)");
    if (!examples) return CHI_OK;
    const struct need need[] = { FILLED(open), FILLED(examples), FILLED(longest), FILLED(vocab), FILLED(slice) };
    TRY(check(file, c, need, COUNT(need)));
    if (!o->documents && !o->document) return CHI_OK;
    return fail(CHI_EPLUGIN, "%s: task %s has both documents and examples - leave document and documents out, or the "
                "members from examples on", file, c->name);
}

static chi_status loop(const char *file, const struct chi_component *c)
{
    const struct chi_loop_ops *o = c->ops;
    TRY(sized(file, c, LEAST(chi_loop_ops, leave_back), sizeof *o));
    const struct need need[] = {
        FILLED(open), FILLED(enter), FILLED(inject), FILLED(leave), FILLED(enter_back), FILLED(inject_back),
        FILLED(leave_back)
    };
    TRY(check(file, c, need, COUNT(need)));
    bool depth = CHI_HAS(struct chi_loop_ops, o, depth), deepest = CHI_HAS(struct chi_loop_ops, o, deepest);
    return depth == deepest ? CHI_OK : refuse(file, c, depth ? "deepest (with depth)" : "depth (with deepest)");
}

static chi_status adapter(const char *file, const struct chi_component *c)
{
    const struct chi_adapter_ops *o = c->ops;
    TRY(sized(file, c, LEAST(chi_adapter_ops, backward), sizeof *o));
    const struct need need[] = { FILLED(open), FILLED(forward), FILLED(backward) };
    return check(file, c, need, COUNT(need));
}

chi_status manifest_ops(const char *file, const struct chi_component *c)
{
    static chi_status (*const by_kind[CHI_KINDS])(const char *, const struct chi_component *) = {
        [CHI_LAYER] = layer, [CHI_BACKEND] = backend, [CHI_QUANTIZER] = quantizer,
        [CHI_ENCODING] = encoding, [CHI_OBJECTIVE] = objective, [CHI_OPTIMIZER] = optimizer,
        [CHI_TOKENIZER] = tokenizer, [CHI_TASK] = task, [CHI_LOOP] = loop, [CHI_ADAPTER] = adapter,
    };
    if (!c->ops)
        return fail(CHI_EPLUGIN, "%s: %s %s has no ops - set .ops to its table of functions", file,
                    kind_name(c->kind), c->name);
    return by_kind[c->kind](file, c);
}
