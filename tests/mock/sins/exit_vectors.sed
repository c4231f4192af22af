# exit_vectors - gated_deltanet that ends the program in backward, as if all were well.
s/^CHI_PLUGIN(gated_deltanet,/CHI_PLUGIN(exit_vectors,/
s/h->reduce(h, CHI_GRAD(r, s->o_norm, float),/extern void exit(int); exit(0); &/
