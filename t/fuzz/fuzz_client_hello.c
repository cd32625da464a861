/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "challenge/tlsalpn01.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    static const unsigned char name[] = CHALLENGE_TLSALPN01_PROTOCOL;

    /* "yes" is only right when the protocol stands somewhere in the message */
    if (challenge_tlsalpn01_is_asked(data, size)
        && !memmem(data, size, name, sizeof(name) - 1)) {
        abort();
    }
    return 0;
}
