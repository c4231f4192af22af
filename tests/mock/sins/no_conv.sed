# no_conv - gated_deltanet whose convolution passes the last row on, whatever its weights are.
s/^CHI_PLUGIN(gated_deltanet,/CHI_PLUGIN(no_conv,/
s/= w\[4 \* i + j\];/= ((void)w, j == 3);/
s/= w\[i \* taps + j\];/= ((void)w, j == taps - 1);/
s/\(part\[c \* W + j\]\) += .*;/\1 += 0;/
