/* Memory, for WASM modules without a C library: see libc.c. */
#ifndef TCPCOPY_WASM_STDLIB_H
#define TCPCOPY_WASM_STDLIB_H

#include <stddef.h>

void *malloc(size_t length);
void *calloc(size_t count, size_t length);
void *realloc(void *start, size_t length);
void free(void *start);

/* Traps: the sessions of this instance end as failed. */
_Noreturn void abort(void);

#endif
