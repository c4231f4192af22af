dnl One line a plugin; its folder, its name, and shared (the default), static or no.
CHI_PLUGIN([layers],[attention])
CHI_PLUGIN([layers],[gated_deltanet])
CHI_PLUGIN([layers],[swiglu])
