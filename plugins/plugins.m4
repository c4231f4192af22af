dnl One line a plugin; its folder, its name, and shared (the default), static or no.
CHI_PLUGIN([layers],[attention])
CHI_PLUGIN([layers],[gated_deltanet])
CHI_PLUGIN([layers],[swiglu])
CHI_PLUGIN([train],[adamw])
CHI_PLUGIN([train],[next_token])
CHI_PLUGIN([tokenizers],[byte])
CHI_PLUGIN([tasks],[text])
