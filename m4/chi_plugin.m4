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
