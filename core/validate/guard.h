/* guard.h - blocks between forbidden pages.
 *
 * A guarded block ends (or begins) at a page that nobody may touch, and what is left of its own
 * pages is filled with a pattern.  So a read or write far outside is a fault at once, which
 * guard_call() turns into words that name the block; a write just outside, where alignment leaves
 * room, is found by guard_broken().
 */
#ifndef GUARD_H
#define GUARD_H

#include <chimera/base.h>

/* Zeroed.  At the end: bytes lie right before the forbidden page, moved down to a multiple of
 * align; else they begin right behind one.  The name is copied.                         */
void *guard_take(int64_t bytes, int64_t align, bool at_end, const char *name);
void  guard_drop(void *);                       /* NULL is fine                          */
/* Fills it with what gives NaN as a float and nonsense as an integer                     */
void  guard_spoil(void *);
void  guard_read_only(void *, bool);
/* Blocks of this name, as guard_read_only()                                              */
void  guard_read_only_all(const char *name, bool);
/* The name of a block with bytes beside it that changed, which are then repaired; or NULL */
const char *guard_broken(void);

/* From now on mem_take() gives guarded blocks, until guard_mem(false)                    */
void  guard_mem(bool on, bool at_end);

/* Runs f(arg).  False: it touched memory that it must not; words tell what: "writes at
 * byte 64 of array h, which has 64".  Only faults of the calling thread are caught.                        */
enum { GUARD_WORDS = 160 };
bool  guard_call(void (*f)(void *), void *arg, char words[GUARD_WORDS]);

#endif
