# no_beta - gated_deltanet that writes at full strength: beta is its maximum, and so its gradient vanishes.
s/^CHI_PLUGIN(gated_deltanet,/CHI_PLUGIN(no_beta,/
s/\(b->beta\[t\] *= s->beta_max\) \* chi_sigmoid(.*;/\1;/
