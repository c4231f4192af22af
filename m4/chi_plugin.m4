# CHI_PLUGIN(FOLDER, NAME, [DEFAULT=shared])
# adds --with-NAME=shared|static|no and the conditionals CHI_SHARED_NAME and CHI_STATIC_NAME;
# --with-plugins=static turns every default but "no" into static.
AC_DEFUN([CHI_PLUGIN], [
  AC_ARG_WITH([$2], [AS_HELP_STRING([--with-$2=shared|static|no], [$1 plugin $2 (default: ]m4_default([$3],[shared])[)])],
    [chi_w=$withval], [chi_w=m4_default([$3],[shared]); test "$chi_w" = no || chi_w=$with_plugins])
  AS_CASE([$chi_w], [yes|shared], [chi_w=shared], [static|no], [],
    [AC_MSG_ERROR([--with-$2: want shared, static or no, not '$chi_w'])])
  AM_CONDITIONAL([CHI_SHARED_$2], [test "$chi_w" = shared])
  AM_CONDITIONAL([CHI_STATIC_$2], [test "$chi_w" = static])
  AS_IF([test "$chi_w" = static], [AS_VAR_APPEND([chi_static], [" $2"])])
  AS_VAR_APPEND([chi_summary], ["  $1/$2: $chi_w
"])
])

# CHI_CAN_COMPILE(NAME, FLAGS, INSTRUCTION)
# sets chi_can_NAME to shared if the target is x86-64 and the compiler takes the flags, _mm512 and
# the instruction, which stands for its assembler's age; else to no, with a message.
AC_DEFUN([CHI_CAN_COMPILE], [
  chi_can_$1=no
  AS_IF([test "$chi_x86" != no], [
    AC_MSG_CHECKING([whether $CC can compile $1])
    chi_saved_CFLAGS=$CFLAGS
    CFLAGS="$CFLAGS $2"
    AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[#include <immintrin.h>]],
      [[__m512i v = _mm512_movm_epi8(~0ull); (void)v; __asm__ volatile("$3");]])],
      [chi_can_$1=shared])
    CFLAGS=$chi_saved_CFLAGS
    AC_MSG_RESULT([$chi_can_$1])
    AS_IF([test "$chi_can_$1" = no], [AC_MSG_NOTICE([the plugin $1 is left out: $CC cannot compile it])])])
])
