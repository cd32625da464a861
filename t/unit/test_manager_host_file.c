/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <apr_general.h>
#include <apr_strings.h>
#include <cmocka.h>

#include "base/log.h"
#include "manager/host_file.h"
#include "run.h"
#include "scratch.h"

#define NOW apr_time_from_sec(1800000000)
#define MANY 200000
#define FEW_SLOTS 100                   /* names; the smallest set there is */
#define REWRITES 40
#define READERS 3
#define LOG_MAX 8

static apr_pool_t *root;

typedef struct fixture_t {
    apr_pool_t *pool;
    char dir[SCRATCH_SIZE];
    char path[SCRATCH_SIZE + 16];
    char other[SCRATCH_SIZE + 16];
    manager_host_file_t file;
    apr_size_t size;
    apr_status_t reported;
} fixture_t;

static char log_lines[LOG_MAX][BASE_LOG_LINE_MAX];
static int log_levels[LOG_MAX];
static int log_count;

static void catch_line(void *baton, int level, const char *line)
{
    (void)baton;
    if (log_count < LOG_MAX) {
        log_levels[log_count] = level;
        apr_cpystrn(log_lines[log_count], line, BASE_LOG_LINE_MAX);
    }
    log_count++;
}

/* Exactly these lines were logged since the last time. */
static void assert_logged(int count)
{
    assert_int_equal(log_count, count);
    log_count = 0;
}

static void assert_line(int i, int level, const char *id, const char *text)
{
    assert_int_equal(log_levels[i], level);
    assert_true(strncmp(log_lines[i], id, strlen(id)) == 0);
    if (strstr(log_lines[i], text) == NULL) {
        fail_msg("no \"%s\" in: %s", text, log_lines[i]);
    }
}

/* ---- the fixture ---- */

/* Shared with processes that are forked later. */
static void make_set(fixture_t *f, apr_size_t names)
{
    static const unsigned char key[SHARED_NAMES_KEY_SIZE] = "0123456789abcde";
    apr_uint32_t slots = shared_names_slots(names);
    void *memory;

    f->size = shared_names_size(slots);
    memory = mmap(NULL, f->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    shared_names_init(memory, slots, key);
    f->file.names = shared_names_attach(memory, f->size);
    assert_non_null(f->file.names);
}

static void drop_set(fixture_t *f)
{
    if (f->file.names != NULL) {
        munmap(f->file.names, f->size);
    }
    f->file.names = NULL;
}

static int set_up(void **state)
{
    fixture_t *f = calloc(1, sizeof(*f));

    apr_pool_create(&f->pool, root);
    assert_int_equal(scratch_make(f->dir), 0);
    snprintf(f->path, sizeof(f->path), "%s/hosts", f->dir);
    snprintf(f->other, sizeof(f->other), "%s/other", f->dir);
    f->file.path = f->path;
    make_set(f, FEW_SLOTS);
    log_count = 0;
    base_log_set(catch_line, NULL);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    fixture_t *f = *state;

    base_log_set(NULL, NULL);
    drop_set(f);
    scratch_remove(f->dir);
    apr_pool_destroy(f->pool);
    free(f);
    return 0;
}

static void write_bytes(const char *path, const char *text, size_t len)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static void write_text(const char *path, const char *text)
{
    write_bytes(path, text, strlen(text));
}

static void set_mtime(const char *path, long seconds, long nanoseconds)
{
    const struct timespec times[2] = { { seconds, nanoseconds }, { seconds, nanoseconds } };

    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static apr_status_t load(fixture_t *f)
{
    return manager_host_file_load(&f->file, &f->reported, NOW, f->pool);
}

static int allows(fixture_t *f, const char *name)
{
    return manager_host_file_allows(&f->file, name);
}

static int lists(fixture_t *f, const char *name)
{
    return manager_host_file_lists(&f->file, name, f->pool);
}

typedef struct gathered_t {
    char text[1024];
    int count;
    int most;                           /* ends with `end` then */
    apr_status_t end;
} gathered_t;

static apr_status_t gather(void *baton, const char *name)
{
    gathered_t *g = baton;
    size_t len = strlen(g->text);

    snprintf(g->text + len, sizeof(g->text) - len, "%s ", name);
    return ++g->count == g->most ? g->end : APR_SUCCESS;
}

/* ---- lines ---- */

static void test_lines(void **state)
{
    static const char text[] =
        "\xef\xbb\xbf" "first.example.org\r\n"
        "# a comment, b.example.org\n"
        "\n"
        "  \t \r\n"
        "\tUPPER.Example.Org \t\n"
        "dot.example.org.# not needed\n"
        "m\xc3\xbcller.example\n"
        "*.wild.example.org\n"
        "*.w\xc3\xaft.example\n"
        "last.example.org";
    static const char *const listed[] = {
        "first.example.org", "upper.example.org", "dot.example.org", "xn--mller-kva.example",
        "last.example.org", "a.wild.example.org", "xn--bcher-kva.wild.example.org",
        "shop.xn--wt-tja.example"
    };
    static const char *const not_listed[] = {
        "b.example.org", "example.org", "wild.example.org", "a.b.wild.example.org", "xn--wt-tja.example",
        "xwild.example.org", "org", "", "a.first.example.org"
    };
    fixture_t *f = *state;
    gathered_t g = { 0 };

    write_text(f->path, text);
    assert_int_equal(load(f), APR_SUCCESS);
    for (size_t i = 0; i < sizeof(listed) / sizeof(listed[0]); i++) {
        assert_true(allows(f, listed[i]));
        assert_true(lists(f, listed[i]));
    }
    for (size_t i = 0; i < sizeof(not_listed) / sizeof(not_listed[0]); i++) {
        assert_false(allows(f, not_listed[i]));
        assert_false(lists(f, not_listed[i]));
    }
    assert_int_equal(manager_host_file_each(&f->file, gather, &g, f->pool), APR_SUCCESS);
    assert_string_equal(g.text, "first.example.org upper.example.org dot.example.org "
                        "xn--mller-kva.example last.example.org ");
    assert_line(0, BASE_LOG_NOTICE, "AC0160: autocert: ", "7 names read; certificates for them are obtained "
                "when visitors come");
    assert_non_null(strstr(log_lines[0], f->path));
    assert_logged(1);
}

static void test_bad_lines(void **state)
{
    static const struct {
        const char *line;
        size_t len;                     /* 0: of the string */
        const char *why;
    } bad[] = {
        { "192.0.2.1", 0, "is an IP address" },
        { "2001:db8::1", 0, "is an IP address" },
        { "localhost", 0, "has no dot" },
        { "*", 0, "is a wildcard" },
        { "*.org", 0, "has no dot behind \"*.\"" },
        { "*.*.example.org", 0, "is a wildcard behind \"*.\"" },
        { "*.192.0.2.1", 0, "is an IP address behind \"*.\"" },
        { "a.*.example.org", 0, "is a wildcard" },
        { "a.example.org b.example.org", 0, "has a character" },
        { "https://a.example.org/", 0, "has a character" },
        { "a_b.example.org", 0, "has a character" },
        { "a.example.org\0b", 15, "has a NUL byte" },
        { "\0", 1, "has a NUL byte" },
        { "\xff\xfe.example.org", 0, "is not UTF-8" },
        { "a.example.org\x1b[2J", 0, "\"a.example.org?[2J\"" },
        { "-a.example.org", 0, "hyphen" }
    };
    fixture_t *f = *state;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char text[256] = "good.example.org\n\n";
        size_t at = strlen(text), len = bad[i].len > 0 ? bad[i].len : strlen(bad[i].line);

        memcpy(text + at, bad[i].line, len);
        memcpy(text + at + len, "\nother.example.org\n", 19);
        write_bytes(f->path, text, at + len + 19);
        set_mtime(f->path, 1000 + (long)i, 0);
        assert_int_equal(load(f), APR_SUCCESS);
        assert_true(allows(f, "good.example.org"));
        assert_true(allows(f, "other.example.org"));
        assert_false(allows(f, "a.example.org"));
        assert_false(lists(f, "a.example.org"));
        assert_line(0, BASE_LOG_NOTICE, "AC0160", "2 names read");
        assert_line(1, BASE_LOG_WARNING, "AC0162", bad[i].why);
        assert_line(1, BASE_LOG_WARNING, "AC0162", "1 line cannot be used, the first is line 3: \"");
        assert_line(1, BASE_LOG_WARNING, "AC0162", "; the other lines are used");
        assert_logged(2);
    }
}

static void test_byte_order_mark(void **state)
{
    static const char *const texts[] = {
        "\xef\xbb\xbf# names\na.example.org\n", "\xef\xbb\xbf\na.example.org\n",
        "\xef\xbb\xbf*.example.org\n"
    };
    fixture_t *f = *state;

    for (int i = 0; i < 3; i++) {
        write_text(f->path, texts[i]);
        set_mtime(f->path, 1000 + i, 0);
        assert_int_equal(load(f), APR_SUCCESS);
        assert_true(allows(f, "a.example.org"));
        assert_logged(1);
    }
}

static void test_several_bad_lines(void **state)
{
    fixture_t *f = *state;
    gathered_t g = { 0 };

    write_text(f->path, "one\n*.two\n\nthree.example.org\n");
    assert_int_equal(load(f), APR_SUCCESS);
    assert_line(0, BASE_LOG_NOTICE, "AC0160", "1 name read");
    assert_line(1, BASE_LOG_WARNING, "AC0162", "2 lines cannot be used, the first is line 1: \"one\"");
    assert_logged(2);
    assert_int_equal(manager_host_file_each(&f->file, gather, &g, f->pool), APR_SUCCESS);
    assert_string_equal(g.text, "three.example.org ");
}

static const char *repeat(fixture_t *f, char c, size_t n)
{
    char *text = apr_pcalloc(f->pool, n + 1);

    memset(text, c, n);
    return text;
}

/* Longer than the buffer, and the line after it is read as it should be. */
static void test_long_lines(void **state)
{
    fixture_t *f = *state;
    char *text;

    /* no name; a comment, which may be as long as it likes; just not too long; one byte too long */
    text = apr_psprintf(f->pool, "a.example.org%s\nb.example.org #%s\nc.example.org%*s\nd.example.org%*s",
                        repeat(f, 'a', 50000), repeat(f, 'b', 40000),
                        MANAGER_HOST_FILE_LINE_MAX - 13, "", MANAGER_HOST_FILE_LINE_MAX - 12, "");
    write_text(f->path, text);
    assert_int_equal(load(f), APR_SUCCESS);
    assert_false(allows(f, "a.example.org"));
    assert_true(allows(f, "b.example.org"));
    assert_true(allows(f, "c.example.org"));
    assert_false(allows(f, "d.example.org"));
    assert_line(1, BASE_LOG_WARNING, "AC0162", "2 lines cannot be used, the first is line 1: \"a.example.org"
                "aaaa");
    assert_line(1, BASE_LOG_WARNING, "AC0162", "is longer than 1024 bytes; ");
    assert_logged(2);
    assert_int_equal(manager_host_file_count(f->path, f->pool), 4);
}

static void test_count(void **state)
{
    fixture_t *f = *state;

    assert_int_equal(manager_host_file_count(f->path, f->pool), 0);
    write_text(f->path, "");
    assert_int_equal(manager_host_file_count(f->path, f->pool), 0);
    write_text(f->path, "a.example.org\n\n#\nb.example.org\n");
    assert_int_equal(manager_host_file_count(f->path, f->pool), 4);
    write_text(f->path, "a.example.org\n\n#\nb.example.org");
    assert_int_equal(manager_host_file_count(f->path, f->pool), 4);
    assert_int_equal(manager_host_file_count(f->dir, f->pool), 0);
    assert_int_equal(mkfifo(f->other, 0600), 0);
    assert_int_equal(manager_host_file_count(f->other, f->pool), 0);
    assert_logged(0);
}

static void test_each_ends(void **state)
{
    static const apr_status_t ends[] = { APR_EGENERAL, APR_EOF };
    fixture_t *f = *state;

    assert_int_equal(manager_host_file_each(&f->file, gather, NULL, f->pool), ENOENT);
    write_text(f->path, "a.example.org\n*.b.example.org\nc.example.org\nd.example.org\n");
    for (int i = 0; i < 2; i++) {
        gathered_t g = { .most = 2, .end = ends[i] };

        assert_int_equal(manager_host_file_each(&f->file, gather, &g, f->pool), ends[i]);
        assert_string_equal(g.text, "a.example.org c.example.org ");
    }
}

/* ---- when it is read ---- */

static void test_before_the_first_load(void **state)
{
    fixture_t *f = *state;

    write_text(f->path, "a.example.org\n");
    assert_false(allows(f, "a.example.org"));
    assert_true(lists(f, "a.example.org"));
    drop_set(f);
    assert_false(allows(f, "a.example.org"));
    assert_true(lists(f, "a.example.org"));
    assert_int_equal(load(f), APR_ENOSHMAVAIL);
    assert_int_equal(unlink(f->path), 0);
    assert_false(lists(f, "a.example.org"));
    assert_logged(0);
}

static void test_changes(void **state)
{
    fixture_t *f = *state;

    f->file.preload = 1;
    write_text(f->path, "a.example.org\n");
    set_mtime(f->path, 1000, 1);
    assert_int_equal(load(f), APR_SUCCESS);
    assert_line(0, BASE_LOG_NOTICE, "AC0160", "ahead of visitors");
    assert_logged(1);
    assert_int_equal(load(f), APR_EEXIST);

    write_text(f->path, "b.example.org\n");     /* another moment */
    set_mtime(f->path, 1000, 2);
    assert_int_equal(load(f), APR_SUCCESS);
    assert_true(allows(f, "b.example.org"));
    assert_false(allows(f, "a.example.org"));
    assert_int_equal(load(f), APR_EEXIST);

    write_text(f->path, "bb.example.org\n");    /* another size */
    set_mtime(f->path, 1000, 2);
    assert_int_equal(load(f), APR_SUCCESS);
    assert_true(allows(f, "bb.example.org"));
    assert_int_equal(load(f), APR_EEXIST);

    write_text(f->other, "cc.example.org\n");   /* another file */
    set_mtime(f->other, 1000, 2);
    assert_int_equal(rename(f->other, f->path), 0);
    assert_int_equal(load(f), APR_SUCCESS);
    assert_true(allows(f, "cc.example.org"));
    assert_false(allows(f, "bb.example.org"));
    assert_int_equal(load(f), APR_EEXIST);

    write_text(f->path, "");                    /* nothing is allowed any more */
    assert_int_equal(load(f), APR_SUCCESS);
    assert_false(allows(f, "cc.example.org"));
    assert_line(3, BASE_LOG_NOTICE, "AC0160", "0 names read");
    assert_int_equal(load(f), APR_EEXIST);
    assert_logged(4);
}

static void test_unreadable(void **state)
{
    fixture_t *f = *state;

    assert_int_equal(load(f), ENOENT);
    assert_line(0, BASE_LOG_WARNING, "AC0161", "cannot be read: No such file or directory; it allows no "
                "name until it can be read");
    assert_int_equal(load(f), ENOENT);
    assert_logged(1);                           /* not again */
    assert_int_equal(mkdir(f->path, 0700), 0);
    assert_int_equal(load(f), EISDIR);
    assert_logged(1);
    assert_int_equal(rmdir(f->path), 0);
    assert_int_equal(mkfifo(f->path, 0600), 0);
    assert_int_equal(load(f), EINVAL);
    assert_line(0, BASE_LOG_WARNING, "AC0161", "it is no regular file; ");
    assert_logged(1);
    assert_int_equal(unlink(f->path), 0);

    write_text(f->path, "a.example.org\n*.b.example.org\n");
    assert_int_equal(load(f), APR_SUCCESS);
    assert_logged(1);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(rename(f->path, f->other), 0);
        assert_int_equal(load(f), ENOENT);
        assert_line(0, BASE_LOG_WARNING, "AC0161", "; the names that were read from it before stay allowed");
        assert_logged(1);
        assert_true(allows(f, "a.example.org"));
        assert_true(lists(f, "a.example.org"));
        assert_true(lists(f, "x.b.example.org"));
        assert_false(lists(f, "c.example.org"));
        /* back as it was: nothing to do, but the next trouble is news again */
        assert_int_equal(rename(f->other, f->path), 0);
        assert_int_equal(load(f), APR_EEXIST);
        assert_logged(0);
    }
}

static void test_too_large(void **state)
{
    fixture_t *f = *state;

    write_text(f->path, "a.example.org\n");
    assert_int_equal(truncate(f->path, (off_t)MANAGER_HOST_FILE_BYTES_MAX + 1), 0);
    assert_int_equal(load(f), EFBIG);
    assert_line(0, BASE_LOG_WARNING, "AC0161", "it is larger than 512 MB; ");
    assert_logged(1);
    assert_int_equal(manager_host_file_count(f->path, f->pool), 0);
    assert_false(lists(f, "a.example.org"));
}

/* The memory of this process is a regular file whose first byte cannot be read. */
static void test_reading_fails(void **state)
{
    fixture_t *f = *state;

    f->file.path = "/proc/self/mem";
    assert_int_equal(manager_host_file_count(f->file.path, f->pool), 0);
    f->file.path = f->path;
    write_text(f->path, "a.example.org\n");
    assert_int_equal(load(f), APR_SUCCESS);
    f->file.path = "/proc/self/mem";
    assert_int_equal(load(f), EIO);
    assert_int_equal(load(f), EIO);
    assert_line(1, BASE_LOG_WARNING, "AC0161", "stay allowed");
    assert_logged(2);
    assert_true(allows(f, "a.example.org"));
    assert_true(lists(f, "a.example.org"));
    assert_false(lists(f, "b.example.org"));
    f->file.path = f->path;
    write_text(f->path, "bb.example.org\n");
    assert_int_equal(load(f), APR_SUCCESS);
    assert_true(allows(f, "bb.example.org"));
}

static void test_another_fills_it(void **state)
{
    fixture_t *f = *state;
    apr_uint32_t claim;

    write_text(f->path, "a.example.org\n");
    assert_int_equal(load(f), APR_SUCCESS);
    write_text(f->path, "bb.example.org\n");
    claim = shared_names_begin(f->file.names, NOW);
    assert_int_not_equal(claim, 0);
    assert_int_equal(load(f), APR_EBUSY);
    assert_true(allows(f, "a.example.org"));
    assert_true(lists(f, "bb.example.org"));
    shared_names_abandon(f->file.names, claim);
    assert_int_equal(load(f), APR_SUCCESS);
    assert_true(allows(f, "bb.example.org"));
    assert_logged(2);
}

/* ---- many names ---- */

static void write_many(fixture_t *f, int count, const char *suffix)
{
    FILE *file = fopen(f->path, "w");

    assert_non_null(file);
    for (int i = 0; i < count; i++) {
        fprintf(file, "host%d.%s\n", i, suffix);
    }
    assert_int_equal(fclose(file), 0);
}

static apr_status_t count_name(void *baton, const char *name)
{
    (void)name;
    (*(int *)baton)++;
    return APR_SUCCESS;
}

static void test_more_names_than_room(void **state)
{
    fixture_t *f = *state;
    int count = 0;

    write_many(f, 3000, "example.org");
    assert_int_equal(load(f), APR_SUCCESS);
    assert_line(0, BASE_LOG_NOTICE, "AC0160", "3000 names read");
    assert_line(1, BASE_LOG_WARNING, "AC0163", " of its 3000 names; until a graceful restart makes more, ");
    assert_logged(2);
    assert_int_equal(load(f), APR_EEXIST);
    assert_true(allows(f, "host0.example.org"));
    assert_true(allows(f, "host2999.example.org"));
    assert_true(allows(f, "unknown.example.org"));
    assert_true(lists(f, "host2999.example.org"));
    assert_false(lists(f, "unknown.example.org"));
    assert_int_equal(manager_host_file_each(&f->file, count_name, &count, f->pool), APR_SUCCESS);
    assert_int_equal(count, 3000);
    assert_int_equal(unlink(f->path), 0);
    assert_true(lists(f, "host0.example.org"));
    assert_false(lists(f, "unknown.example.org"));
}

static void test_many_names(void **state)
{
    fixture_t *f = *state;
    int count = 0, missing = 0, wrong = 0;
    char name[64];

    write_many(f, MANY, "example.org");
    drop_set(f);
    assert_int_equal(manager_host_file_count(f->path, f->pool), MANY);
    make_set(f, MANY);
    assert_int_equal(load(f), APR_SUCCESS);
    assert_line(0, BASE_LOG_NOTICE, "AC0160", "200000 names read");
    assert_logged(1);
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof(name), "host%d.example.org", i);
        missing += !allows(f, name);
        snprintf(name, sizeof(name), "host%d.example.net", i);
        wrong += allows(f, name);
    }
    assert_int_equal(missing, 0);
    assert_int_equal(wrong, 0);
    assert_true(lists(f, "host199999.example.org"));
    assert_false(lists(f, "host200000.example.org"));
    assert_int_equal(manager_host_file_each(&f->file, count_name, &count, f->pool), APR_SUCCESS);
    assert_int_equal(count, MANY);
}

/* ---- together ---- */

static atomic_int done;

/* In place, each time with another size. No assertion: this is not the thread that cmocka knows. */
static void *rewrite(void *data)
{
    fixture_t *f = data;

    for (int i = 1; i <= REWRITES; i++) {
        FILE *file = fopen(f->path, "w");

        if (file == NULL) {
            break;
        }
        fprintf(file, "always.example.org\nlast%d.example.org\n", i);
        for (int j = 0; j < i; j++) {
            fprintf(file, "host%d.example.org\n", j);
        }
        fclose(file);
    }
    done = 1;
    return NULL;
}

static void *look(void *data)
{
    fixture_t *f = data;
    intptr_t wrong = 0;

    do {
        wrong += allows(f, "never.example.org");
    } while (!done);
    return (void *)wrong;
}

static void test_rewritten_while_it_is_read(void **state)
{
    fixture_t *f = *state;
    pthread_t writer, readers[READERS];
    apr_status_t rv;
    void *wrong;

    done = 0;
    write_text(f->path, "always.example.org\n");
    pthread_create(&writer, NULL, rewrite, f);
    for (int i = 0; i < READERS; i++) {
        pthread_create(&readers[i], NULL, look, f);
    }
    do {
        rv = load(f);
        assert_true(rv == APR_SUCCESS || rv == APR_EEXIST);
    } while (!done);
    pthread_join(writer, NULL);
    for (int i = 0; i < READERS; i++) {
        pthread_join(readers[i], &wrong);
        assert_null(wrong);
    }
    rv = load(f);
    assert_true(rv == APR_SUCCESS || rv == APR_EEXIST);
    assert_int_equal(load(f), APR_EEXIST);
    assert_true(allows(f, "always.example.org"));
    assert_true(allows(f, "last40.example.org"));
    assert_false(allows(f, "last39.example.org"));
    for (int i = 0; i < REWRITES; i++) {
        assert_true(allows(f, apr_psprintf(f->pool, "host%d.example.org", i)));
    }
}

/* The elected child loads, its siblings see it. */
static void test_processes(void **state)
{
    fixture_t *f = *state;
    int status = -1;
    pid_t pid;

    write_text(f->path, "a.example.org\n*.b.example.org\n");
    pid = fork();
    if (pid == 0) {
        _exit(load(f) == APR_SUCCESS ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_true(allows(f, "a.example.org"));
    assert_true(allows(f, "x.b.example.org"));
    assert_false(allows(f, "b.example.org"));
    assert_int_equal(load(f), APR_EEXIST);
}

#define WITH_FILE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FILE(test_lines),
        WITH_FILE(test_bad_lines),
        WITH_FILE(test_byte_order_mark),
        WITH_FILE(test_several_bad_lines),
        WITH_FILE(test_long_lines),
        WITH_FILE(test_count),
        WITH_FILE(test_each_ends),
        WITH_FILE(test_before_the_first_load),
        WITH_FILE(test_changes),
        WITH_FILE(test_unreadable),
        WITH_FILE(test_too_large),
        WITH_FILE(test_reading_fails),
        WITH_FILE(test_another_fills_it),
        WITH_FILE(test_more_names_than_room),
        WITH_FILE(test_many_names),
        WITH_FILE(test_rewritten_while_it_is_read),
        WITH_FILE(test_processes),
    };

    return RUN_TESTS_WITH_POOL(tests, root);
}
