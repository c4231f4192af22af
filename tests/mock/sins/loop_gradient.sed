# loop_gradient - the loop that `chimera new` writes, whose gradient of gate forgets a factor (1 - g).
# of core/templates/loop.c
s/@name@/loop_gradient/
s/g \* (1 - g) \* sum;/g * sum;/
