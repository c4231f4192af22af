# no_conv - gated_deltanet whose convolution passes the last row on, whatever its weights are.
s/^CHI_PLUGIN(gated_deltanet,/CHI_PLUGIN(no_conv,/
s/= w\[c \* W + j\];/= ((void)w, j == W - 1);/
s/\(part\[c \* W + j\]\) = .*;/\1 = 0;/
