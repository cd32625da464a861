/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Many clients at once, a thread each. A handshake that fails is not tried again.
 *
 *     bench_demand PORT CAFILE CLIENTS names NAME ...
 *
 * Each name once, by whichever client is free. Prints "NAME SECONDS RESULT SERIAL" for each in their
 * order, RESULT being "ok", "alert-NUMBER" or "failed", and at the end "total SECONDS".
 *
 *     bench_demand PORT CAFILE CLIENTS paced RATE SECONDS known COUNT
 *     bench_demand PORT CAFILE CLIENTS paced RATE SECONDS random SUFFIX
 *
 * So many handshakes a second (fewer when no client is free), with the first names of bench_fill in
 * turn or with random names below a suffix. Prints "OK REFUSED FAILED P50 P99", refused being those
 * that ended with unrecognized_name, and the last two the seconds that a good one took, counted from when
 * it was due.
 */

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/err.h>
#include <openssl/rand.h>

#include "client.h"

#define CLIENTS_MAX 1000
#define RATE_MAX 100000         /* a second */
#define SECONDS_MAX 3600
#define NAME_SIZE 256
#define RANDOM_LETTERS 16

typedef struct result_t {
    int ok;
    client_seen_t seen;
} result_t;

typedef struct work_t {
    client_t client;
    long clients;
    char **names;               /* "names": what they are */
    double start;               /* "paced": when the first is due */
    double seconds;             /* how long it goes on */
    double rate;
    long known;                 /* how many names of bench_fill; 0: random ones */
    const char *suffix;
    long count;                 /* at most so many handshakes */
    atomic_long next;
    result_t *results;          /* one for each */
} work_t;

static void *take_names(void *data)
{
    work_t *work = data;
    long i;

    while ((i = atomic_fetch_add(&work->next, 1)) < work->count) {
        work->results[i].ok = client_shake(&work->client, work->names[i], &work->results[i].seen);
        ERR_clear_error();
    }
    return NULL;
}

static void sleep_until(double when)
{
    struct timespec due = {.tv_sec = (time_t)when};

    due.tv_nsec = (long)((when - (double)due.tv_sec) * 1e9);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) == EINTR)
        continue;
}

static void choose_name(const work_t *work, long i, char name[NAME_SIZE])
{
    unsigned char bytes[RANDOM_LETTERS];
    char letters[RANDOM_LETTERS + 1] = "";

    if (work->known) {
        snprintf(name, NAME_SIZE, "host%05ld.example.test", i % work->known);
        return;
    }
    if (RAND_bytes(bytes, sizeof(bytes)) != 1)
        abort();
    for (int k = 0; k < RANDOM_LETTERS; k++)
        letters[k] = (char)('a' + bytes[k] % 26);
    snprintf(name, NAME_SIZE, "%s.%s", letters, work->suffix);
}

static void *keep_pace(void *data)
{
    work_t *work = data;
    char name[NAME_SIZE];
    double due;
    long i;

    while ((i = atomic_fetch_add(&work->next, 1)) < work->count) {
        due = work->start + (double)i / work->rate;
        if (client_now() >= work->start + work->seconds)
            break;
        sleep_until(due);
        choose_name(work, i, name);
        work->results[i].ok = client_shake(&work->client, name, &work->results[i].seen);
        ERR_clear_error();
        work->results[i].seen.seconds = client_now() - due;
    }
    return NULL;
}

static int run_clients(work_t *work, void *(*body)(void *))
{
    pthread_t threads[CLIENTS_MAX];
    long started = 0;

    work->results = calloc((size_t)work->count, sizeof(*work->results));
    if (work->results == NULL)
        return 0;
    work->start = client_now();
    while (started < work->clients && pthread_create(&threads[started], NULL, body, work) == 0)
        started++;
    for (long t = 0; t < started; t++)
        pthread_join(threads[t], NULL);
    return started == work->clients;
}

static void print_names(const work_t *work)
{
    double total = client_now() - work->start;

    for (long i = 0; i < work->count; i++) {
        const result_t *result = &work->results[i];

        printf("%s %.6f ", work->names[i], result->seen.seconds);
        if (result->ok)
            printf("ok %s\n", result->seen.serial);
        else if (result->seen.alert >= 0)
            printf("alert-%d -\n", result->seen.alert);
        else
            printf("failed -\n");
    }
    printf("total %.6f\n", total);
}

static int compare_seconds(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static int print_pace(const work_t *work)
{
    long done = atomic_load(&work->next) < work->count ? atomic_load(&work->next) : work->count;
    double *times = calloc((size_t)work->count, sizeof(*times));
    long ok = 0, refused = 0, failed = 0;

    if (times == NULL)
        return 0;
    for (long i = 0; i < done; i++) {
        const result_t *result = &work->results[i];

        if (result->ok)
            times[ok++] = result->seen.seconds;
        else if (result->seen.alert == SSL_AD_UNRECOGNIZED_NAME)
            refused++;
        else if (result->seen.seconds > 0)      /* else its turn had not come when time was up */
            failed++;
    }
    qsort(times, (size_t)ok, sizeof(*times), compare_seconds);
    printf("%ld %ld %ld %.6f %.6f\n", ok, refused, failed, ok ? times[ok / 2] : 0,
           ok ? times[ok * 99 / 100] : 0);
    free(times);
    return 1;
}

static int read_pace(work_t *work, char **argv)
{
    work->rate = strtod(argv[0], NULL);
    work->seconds = strtod(argv[1], NULL);
    if (!(work->rate > 0 && work->rate <= RATE_MAX && work->seconds > 0 && work->seconds <= SECONDS_MAX))
        return 0;
    work->count = (long)(work->rate * work->seconds);
    work->suffix = argv[3];
    if (strcmp(argv[2], "random") == 0)
        return work->count > 0;
    work->known = strtol(argv[3], NULL, 10);
    return strcmp(argv[2], "known") == 0 && work->known > 0 && work->count > 0;
}

int main(int argc, char **argv)
{
    work_t work = {0};
    int paced = argc == 9 && strcmp(argv[4], "paced") == 0;
    int done;

    work.clients = argc > 5 ? strtol(argv[3], NULL, 10) : 0;
    work.names = argv + 5;
    work.count = argc - 5;
    if (work.clients < 1 || work.clients > CLIENTS_MAX || (paced && !read_pace(&work, argv + 5))
        || (!paced && strcmp(argv[4], "names") != 0)) {
        fprintf(stderr, "usage: %s PORT CAFILE CLIENTS names NAME ...\n"
                "       %s PORT CAFILE CLIENTS paced RATE SECONDS known COUNT|random SUFFIX\n",
                argv[0], argv[0]);
        return 2;
    }
    if (!client_open(&work.client, argv[1], 0, argv[2]))
        return 1;
    done = run_clients(&work, paced ? keep_pace : take_names);
    if (done && paced)
        done = print_pace(&work);
    else if (done)
        print_names(&work);
    free(work.results);
    client_close(&work.client);
    return !done;
}
