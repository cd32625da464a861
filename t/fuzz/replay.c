/* Licensed under the Apache License, Version 2.0; see LICENSE. */
/*
 * Gives each file named on the command line to a fuzz target once, so that
 * what a fuzzer found stays tested by compilers that have no libFuzzer.
 */
#include <stdio.h>
#include <stdlib.h>

#define INPUT_MAX (4 * 1024 * 1024)

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

/* A buffer of exactly the file's size, so that one byte too far is seen. */
static int replay(const char *path)
{
    FILE *file = fopen(path, "rb");
    unsigned char *data = NULL;
    long size = -1;
    int failed = 1;

    if (file && fseek(file, 0, SEEK_END) == 0) {
        size = ftell(file);
    }
    if (size < 0 || size > INPUT_MAX || fseek(file, 0, SEEK_SET) != 0) {
        goto out;
    }
    data = malloc(size ? (size_t)size : 1);
    if (!data || fread(data, 1, (size_t)size, file) != (size_t)size) {
        goto out;
    }
    (void)LLVMFuzzerTestOneInput(data, (size_t)size);
    failed = 0;
out:
    if (failed) {
        fprintf(stderr, "%s: cannot be read\n", path);
    }
    free(data);
    if (file) {
        fclose(file);
    }
    return failed;
}

int main(int argc, char **argv)
{
    int failures = 0;
    int i;

    for (i = 1; i < argc; ++i) {
        failures += replay(argv[i]);
    }
    printf("%d inputs replayed\n", argc - 1 - failures);
    return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
