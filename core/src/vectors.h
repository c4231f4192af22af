/* vectors.h - reference vectors: a tensor file that holds inputs, parameters and the
 * exact outputs and gradients of one component or of a small model.            */
#ifndef VECTORS_H
#define VECTORS_H

#include <chimera/base.h>
#include <stdio.h>

/* Runs the file and writes a line per tensor to out: name, error, tolerance.  The
 * error is max|got - expected| / (max|expected| + 1e-6).  Also token by token, every
 * cut of the rows into two calls, and 1, 2, 3 and 8 threads, which must agree bit for
 * bit.  CHI_EPLUGIN: something missed, or a plugin is refused; CHI_EDATA: the file is
 * damaged; CHI_ENOTSUP: a component that its configuration names is not there.  */
chi_status vectors_check(const char *file, FILE *out) CHI_MUST_CHECK;

#endif
