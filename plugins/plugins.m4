dnl One line a plugin; its folder, its name, and shared (the default), static or no.
CHI_PLUGIN([formats], [floats])
CHI_PLUGIN([formats], [int8])
CHI_PLUGIN([formats], [ternary])
AC_CANONICAL_HOST
AS_CASE([$host_cpu], [x86_64], [chi_x86=shared], [chi_x86=no])
CHI_PLUGIN([kernels], [avx2], [$chi_x86])
CHI_PLUGIN([kernels], [openblas])
CHI_PLUGIN([layers],[attention])
CHI_PLUGIN([layers],[gated_deltanet])
CHI_PLUGIN([layers],[swiglu])
