/* apple_amx_emulator.h - Apple's AMX instructions on other 64-bit ARM machines: for tests        */
#ifndef APPLE_AMX_EMULATOR_H
#define APPLE_AMX_EMULATOR_H

#include <stdbool.h>
#include <stdint.h>

/* From now on, in this process                                                                   */
void apple_amx_emulate(void);
/* How many instructions of this number (0 ldx, 1 ldy, 5 stz, 12 fma32, 14 mac16) have run        */
long apple_amx_executed(int op);

#endif
