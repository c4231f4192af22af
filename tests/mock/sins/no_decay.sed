# no_decay - gated_deltanet that never forgets: rate = 0, so alpha = 1 and its gradients vanish.
s/^CHI_PLUGIN(gated_deltanet,/CHI_PLUGIN(no_decay,/
s/float rate = .*;/float rate = 0;/
