/* events.h - lines of metrics.jsonl as TensorBoard's event files, whose records are
 *
 *     u64 length, u32 mask(crc32c(length)), bytes, u32 mask(crc32c(bytes))     little-endian
 *     mask(c) = rotate right by 15 (c) + 0xa282ead8  mod 2^32
 *
 * and whose bytes are a protobuf Event: wall_time (1, double), step (2), file_version (3),
 * or summary (5) with a value (1) a number: tag (1), simple_value (2, float).          */
#ifndef EVENTS_H
#define EVENTS_H

#include <stdint.h>
#include <stdio.h>

uint32_t events_crc32c(const void *, size_t);
/* The record that begins a file; base is the Unix time of wall_s = 0                   */
void events_begin(FILE *, double base);
/* What it said, of a file's first n bytes; 0: it is none                               */
double events_base(const unsigned char *, int64_t n);
/* A record with every number of the line but its step; a line that is none adds nothing */
void events_line(FILE *, const char *json, int64_t n, double base);
/* wall_s of a line, or 0                                                                */
double events_wall(const char *json, int64_t n);

#endif
