/* Letters of ASCII, for WASM modules without a C library: see libc.c. */
#ifndef TCPCOPY_WASM_CTYPE_H
#define TCPCOPY_WASM_CTYPE_H

int isdigit(int letter);
int isupper(int letter);
int islower(int letter);
int isalpha(int letter);
int isalnum(int letter);
int isspace(int letter);
int tolower(int letter);
int toupper(int letter);

#endif
