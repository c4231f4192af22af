# crash_vectors - gated_deltanet that crashes in backward.
s/^CHI_PLUGIN(gated_deltanet,/CHI_PLUGIN(crash_vectors,/
s/h->reduce(h, CHI_GRAD(r, s->o_norm, float),/h->reduce(h, (float *)8,/
