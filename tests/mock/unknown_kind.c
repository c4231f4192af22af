/* unknown_kind.c - a component is of no known kind. */
#include "mock.h"

MOCK_OPS;
static const struct chi_component thing = {
    .struct_size = sizeof thing, .kind = 99, .name = "unknown_kind", .summary = "a mock", .ops = &mock_ops,
};
MOCK_NAMED("unknown_kind", &thing);
