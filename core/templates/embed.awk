# embed.awk - C tables of the lines of the files given, for core/src/templates.h.
FNR == 1 {
    if (n) print "    0\n};"
    name = FILENAME
    sub(/.*\//, "", name)
    file[n++] = name
    printf "static const char *const file%d[] = {\n", n
}
{
    gsub(/\\/, "&&")
    gsub(/"/, "\\\"")
    printf "    \"%s\\n\",\n", $0
}
END {
    print "    0\n};\nconst struct template templates[] = {"
    for (i = 0; i < n; i++) printf "    { \"%s\", file%d },\n", file[i], i + 1
    print "    { 0, 0 }\n};"
}
