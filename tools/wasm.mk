# WebAssembly for node, with Debian's emscripten; doc/wasm.md tells how and what is absent.
#
#     make -f tools/wasm.mk OUT=FOLDER [DEPS=FOLDER] [-j N]
#
# makes OUT/chimera.js (all plugins linked in), OUT/chimera-dl.js (plugins are loaded by dlopen) and
# OUT/plugins/FOLDER/NAME.so, side modules for the latter.  The core is compiled once for both.
# DEPS holds ini.c, ini.h, cjson/cJSON.c, cjson/cJSON.h, xxhash.h and uthash.h; tests/wasm.sh gets them.
TOP   := $(dir $(abspath $(dir $(lastword $(MAKEFILE_LIST)))))
OUT   ?= wasm
DEPS  ?= $(OUT)/deps
EMCC  ?= emcc
AWK   ?= awk
SIMD  ?= -msimd128
CFLAGS ?= -O2
export NODE_PATH ?= /usr/share/nodejs

# Every plugin but the backends of other CPUs
PLUGINS := $(filter-out kernels/%,$(shell sed -n 's/^CHI_PLUGIN.\[\([a-z]*\)\], *\[\([a-z0-9_]*\)\].*/\1\/\2/p' \
	$(TOP)plugins/plugins.m4)) kernels/wasm_simd128
NAMES   := $(notdir $(PLUGINS))

FLAGS = -std=c11 -D_GNU_SOURCE $(CFLAGS) $(SIMD) -fPIC -fvisibility=hidden -ffp-contract=off -fno-math-errno \
	-fno-trapping-math -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes $(WERROR)
INC   = -I$(TOP)core/include -I$(TOP)core/src -I$(TOP)core/validate -I$(DEPS) -DXXH_INLINE_ALL -Dwarn=core_warn \
	-DCHI_BUILD_FLAGS='"$(CFLAGS) $(SIMD)"'
# emcc starts Python for each file; Debian's clang with emcc's flags compiles the same in a fifth of the time.
CLANG := $(shell command -v clang-14)
CC    := $(if $(CLANG),$(CLANG) $(shell $(EMCC) --cflags),$(EMCC))
LINK  = $(CFLAGS) -sNODERAWFS -sALLOW_MEMORY_GROWTH -sMAXIMUM_MEMORY=4GB -sTOTAL_STACK=4MB -sEXIT_RUNTIME -sWASM_BIGINT --pre-js $(TOP)core/wasm/pre.js

CORE   := $(patsubst $(TOP)core/%.c,$(OUT)/o/%.o,$(wildcard $(TOP)core/src/*.c $(TOP)core/validate/*.c))
OTHERS := $(OUT)/o/templates.o $(OUT)/o/wasm/absent.o $(OUT)/o/ini.o $(OUT)/o/cJSON.o
STATIC := $(patsubst $(TOP)plugins/%.c,$(OUT)/o/static/%.o,$(wildcard $(PLUGINS:%=$(TOP)plugins/%/*.c)))
SHARED := $(addprefix $(OUT)/plugins/,$(addsuffix .so,$(PLUGINS)))

all: static dl
static: $(OUT)/chimera.js
dl: $(OUT)/chimera-dl.js $(SHARED)
.PHONY: all static dl
.DELETE_ON_ERROR:

$(OUT)/chimera.js: $(CORE) $(OTHERS) $(OUT)/o/all_plugins.o $(STATIC) $(TOP)core/wasm/pre.js
	$(EMCC) $(LINK) -o $@ $(filter %.o,$^)
$(OUT)/chimera-dl.js: $(CORE) $(OTHERS) $(OUT)/o/no_plugins.o $(TOP)core/wasm/pre.js
	$(EMCC) $(LINK) -sMAIN_MODULE=1 -o $@ $(filter %.o,$^)

$(OUT)/o/%.o: $(TOP)core/%.c
	@mkdir -p $(@D)
	$(CC) $(FLAGS) $(INC) -MMD -c -o $@ $<
$(OUT)/o/%.o: $(OUT)/src/%.c
	@mkdir -p $(@D)
	$(CC) $(FLAGS) $(INC) -c -o $@ $<
$(OUT)/o/ini.o: $(DEPS)/ini.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -fPIC -c -o $@ $<
$(OUT)/o/cJSON.o: $(DEPS)/cjson/cJSON.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -fPIC -c -o $@ $<

# Linked in, a plugin's files are objects like others; else one side module, which exports its manifest alone.
$(OUT)/o/static/%.o: $(TOP)plugins/%.c
	@mkdir -p $(@D)
	$(CC) $(FLAGS) -I$(TOP)core/include -DCHI_STATIC -MMD -c -o $@ $<
.SECONDEXPANSION:
$(SHARED): $(OUT)/plugins/%.so: $$(wildcard $(TOP)plugins/%/*.c $(TOP)plugins/%/*.h)
	@mkdir -p $(@D)
	$(EMCC) $(FLAGS) -I$(TOP)core/include -sSIDE_MODULE=2 -sWASM_BIGINT -sEXPORTED_FUNCTIONS=_chimera_plugin -o $@ $(filter %.c,$^)

$(OUT)/src/templates.c: $(wildcard $(TOP)core/templates/*)
	@mkdir -p $(@D)
	{ echo '#include "templates.h"'; $(AWK) -f $(TOP)core/templates/embed.awk \
		$(filter-out %.awk,$^); } >$@
$(OUT)/src/all_plugins.c: $(TOP)plugins/plugins.m4 $(TOP)tools/wasm.mk
	@mkdir -p $(@D)
	{ echo '#include "registry.h"'; printf 'extern const struct chi_plugin chimera_plugin_%s;\n' $(NAMES); \
	  echo 'const char plugin_folder[] = "/nowhere";'; echo 'const struct chi_plugin *const static_plugins[] = {'; \
	  printf '    &chimera_plugin_%s,\n' $(NAMES); echo '    NULL };'; } >$@
$(OUT)/src/no_plugins.c: $(TOP)tools/wasm.mk
	@mkdir -p $(@D)
	{ echo '#include "registry.h"'; echo 'const char plugin_folder[] = "$(abspath $(OUT))/plugins";'; \
	  echo 'const struct chi_plugin *const static_plugins[] = { NULL };'; } >$@

-include $(wildcard $(OUT)/o/*/*.d $(OUT)/o/static/*/*/*.d)
