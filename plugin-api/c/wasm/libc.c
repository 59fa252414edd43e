/*
 * What plugins need of the C library, for WASM modules that have none: memory, strings, characters.
 * The headers beside this file say what there is.
 *
 * The allocator keeps a list of free blocks for each power of two. A block that is freed is used
 * again for its own size only, which suits sessions: there are many of each kind.
 */
#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef __wasm_bulk_memory__
#error "compile with -mbulk-memory: copying is then one instruction"
#endif

#define WASM_PAGE 65536u

/* What stands before each block; what follows is aligned for every type. */
struct block {
    size_t size; /* with this head: a power of two */
    struct block *next;
    uint64_t aligned;
};

#define SMALLEST 32u
#define SIZES 32

extern unsigned char __heap_base;

static struct block *freed[SIZES];
static uintptr_t unused, end; /* of the memory that no block has had yet */

/* Takes memory that nobody has had, and more from the host where that is needed. */
static struct block *fresh(size_t size) {
    if (!unused) {
        unused = ((uintptr_t)&__heap_base + 15) & ~(uintptr_t)15;
        end = __builtin_wasm_memory_size(0) * WASM_PAGE;
    }
    if (size > end - unused) {
        size_t pages = (size - (end - unused) + WASM_PAGE - 1) / WASM_PAGE;
        if (__builtin_wasm_memory_grow(0, pages) == (size_t)-1)
            return 0;
        end += pages * WASM_PAGE;
    }
    struct block *block = (struct block *)unused;
    unused += size;
    return block;
}

void *malloc(size_t length) {
    size_t size = SMALLEST;
    unsigned index = 0;
    if (length > SIZE_MAX / 4)
        return 0;
    for (; size < length + sizeof(struct block); size *= 2)
        index++;
    struct block *block = freed[index];
    if (block)
        freed[index] = block->next;
    else if (!(block = fresh(size)))
        return 0;
    block->size = size;
    return block + 1;
}

void free(void *start) {
    if (!start)
        return;
    struct block *block = (struct block *)start - 1;
    unsigned index = (unsigned)__builtin_ctz(block->size) - (unsigned)__builtin_ctz(SMALLEST);
    block->next = freed[index];
    freed[index] = block;
}

void *calloc(size_t count, size_t length) {
    size_t all;
    if (__builtin_mul_overflow(count, length, &all))
        return 0;
    void *start = malloc(all);
    return start ? memset(start, 0, all) : 0;
}

void *realloc(void *start, size_t length) {
    if (!start)
        return malloc(length);
    size_t room = ((struct block *)start - 1)->size - sizeof(struct block);
    if (length <= room)
        return start;
    void *moved = malloc(length);
    if (moved) {
        memcpy(moved, start, room);
        free(start);
    }
    return moved;
}

void abort(void) {
    __builtin_trap();
}

void *memcpy(void *restrict to, const void *restrict from, size_t length) {
    return __builtin_memcpy(to, from, length);
}

void *memmove(void *to, const void *from, size_t length) {
    return __builtin_memmove(to, from, length);
}

void *memset(void *to, int byte, size_t length) {
    return __builtin_memset(to, byte, length);
}

int memcmp(const void *left, const void *right, size_t length) {
    const unsigned char *a = left, *b = right;
    for (; length; length--, a++, b++)
        if (*a != *b)
            return *a - *b;
    return 0;
}

void *memchr(const void *start, int byte, size_t length) {
    const unsigned char *at = start;
    for (; length; length--, at++)
        if (*at == (unsigned char)byte)
            return (void *)at;
    return 0;
}

size_t strlen(const char *text) {
    size_t length = 0;
    while (text[length])
        length++;
    return length;
}

int strcmp(const char *left, const char *right) {
    for (; *left && *left == *right; left++, right++)
        ;
    return (unsigned char)*left - (unsigned char)*right;
}

int strncmp(const char *left, const char *right, size_t length) {
    for (; length && *left && *left == *right; length--, left++, right++)
        ;
    return length ? (unsigned char)*left - (unsigned char)*right : 0;
}

int isdigit(int letter) {
    return letter >= '0' && letter <= '9';
}

int isupper(int letter) {
    return letter >= 'A' && letter <= 'Z';
}

int islower(int letter) {
    return letter >= 'a' && letter <= 'z';
}

int isalpha(int letter) {
    return isupper(letter) || islower(letter);
}

int isalnum(int letter) {
    return isalpha(letter) || isdigit(letter);
}

int isspace(int letter) {
    return letter == ' ' || (letter >= '\t' && letter <= '\r');
}

int tolower(int letter) {
    return isupper(letter) ? letter + ('a' - 'A') : letter;
}

int toupper(int letter) {
    return islower(letter) ? letter - ('a' - 'A') : letter;
}
