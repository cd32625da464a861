/* Licensed under the Apache License, Version 2.0; see LICENSE. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <apr_general.h>
#include <apr_strings.h>
#include <cmocka.h>

#include "cache/cache.h"
#include "cache/dir.h"
#include "run.h"
#include "scratch.h"

#define SHARED AUTOCERT_CACHE_SHARED
#define PRIVATE AUTOCERT_CACHE_PRIVATE
#define NOBODY 65534
#define KILL_ROUNDS 50
#define TEMP_NAME ".tmp-autocert-0123456789abcdef0123456789abcdef"

static const autocert_cache_provider_t *const dir = &cache_dir_provider;
static apr_pool_t *pool;
static autocert_cache_t *cache;
static char base[SCRATCH_SIZE]; /* scratch directory */
static char path[300];          /* the cache in it, not there yet */

static int set_up(void **state)
{
    (void)state;
    apr_pool_create(&pool, NULL);
    if (scratch_make(base) != 0) {
        return 1;
    }
    snprintf(path, sizeof(path), "%s/cache", base);
    return dir->open(&cache, path, pool) != APR_SUCCESS;
}

static int tear_down(void **state)
{
    (void)state;
    dir->close(cache);
    apr_pool_destroy(pool);
    return scratch_remove(base);
}

static const char *inside(const char *name)
{
    return apr_pstrcat(pool, path, "/", name, NULL);
}

static void write_file(const char *name, const char *text)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static apr_status_t get(autocert_cache_space_t space, const char *key, char **data)
{
    apr_size_t len = 0;
    apr_status_t rv = dir->get(cache, space, key, data, &len, pool);

    if (rv == APR_SUCCESS) {
        assert_int_equal(strlen(*data), len);
    }
    return rv;
}

static apr_status_t put(autocert_cache_space_t space, const char *key, const char *text)
{
    return dir->put(cache, space, key, text, strlen(text), pool);
}

static int count_entries(const char *name)
{
    DIR *d = opendir(name);
    int count = 0;

    assert_non_null(d);
    while (readdir(d)) {
        count++;
    }
    closedir(d);
    return count - 2;
}

static unsigned int mode_of(const char *name)
{
    struct stat st;

    assert_int_equal(lstat(name, &st), 0);
    return st.st_mode & 07777;
}

static void test_life_of_a_value(void **state)
{
    char *data = NULL;
    struct stat st;

    (void)state;
    assert_int_equal(get(SHARED, "dummy", &data), APR_NOTFOUND);
    assert_int_equal(stat(path, &st), -1);
    assert_int_equal(put(SHARED, "dummy", "some bytes"), APR_SUCCESS);
    assert_int_equal(get(SHARED, "dummy", &data), APR_SUCCESS);
    assert_string_equal(data, "some bytes");
    assert_int_equal(stat(inside("dummy"), &st), 0);
    assert_int_equal(st.st_size, 10);
    assert_int_equal(count_entries(path), 1);
    assert_int_equal(dir->remove(cache, SHARED, "dummy", pool), APR_SUCCESS);
    assert_int_equal(get(SHARED, "dummy", &data), APR_NOTFOUND);
    assert_int_equal(dir->remove(cache, SHARED, "dummy", pool), APR_SUCCESS);
}

static void test_missing_directory(void **state)
{
    autocert_cache_stat_t st;
    char *data;

    (void)state;
    assert_int_equal(get(PRIVATE, "a", &data), APR_NOTFOUND);
    assert_int_equal(dir->stat(cache, SHARED, "a", &st, pool), APR_NOTFOUND);
    assert_int_equal(dir->stat(cache, PRIVATE, "a", &st, pool), APR_NOTFOUND);
    assert_int_equal(dir->remove(cache, SHARED, "a", pool), APR_SUCCESS);
    assert_int_equal(dir->list(cache, SHARED, NULL, NULL, pool), APR_SUCCESS);
    assert_int_equal(dir->list(cache, PRIVATE, NULL, NULL, pool), APR_SUCCESS);
    assert_int_equal(cache_dir_sweep(path, apr_time_now(), 0, pool), APR_SUCCESS);
    assert_int_equal(access(path, F_OK), -1);
}

/* A kept descriptor would go on with the old directory. */
static void test_directory_replaced_meanwhile(void **state)
{
    char *data;

    (void)state;
    assert_int_equal(put(SHARED, "a", "old"), APR_SUCCESS);
    assert_int_equal(rename(path, apr_pstrcat(pool, base, "/away", NULL)), 0);
    assert_int_equal(get(SHARED, "a", &data), APR_NOTFOUND);
    assert_int_equal(put(SHARED, "a", "new"), APR_SUCCESS);
    assert_int_equal(get(SHARED, "a", &data), APR_SUCCESS);
    assert_string_equal(data, "new");
}

static void test_modes(void **state)
{
    autocert_cache_lock_t *lock = NULL;
    mode_t mask = umask(0);

    (void)state;
    assert_int_equal(put(SHARED, "a", "1"), APR_SUCCESS);
    assert_int_equal(put(PRIVATE, "a", "1"), APR_SUCCESS);
    assert_int_equal(dir->lock(cache, "a", &lock, pool), APR_SUCCESS);
    assert_int_equal(mode_of(path), 0700);
    assert_int_equal(mode_of(inside("a")), 0600);
    assert_int_equal(mode_of(inside(".autocert")), 0700);
    assert_int_equal(mode_of(inside(".autocert/a")), 0600);
    assert_int_equal(mode_of(inside(".autocert/lock")), 0700);
    assert_int_equal(mode_of(inside(".autocert/lock/a")), 0600);
    dir->unlock(cache, lock);
    assert_int_equal(chmod(inside("a"), 0644), 0);
    umask(0777);
    assert_int_equal(put(SHARED, "a", "2"), APR_SUCCESS);
    umask(mask);
    assert_int_equal(mode_of(inside("a")), 0600);
}

static void assert_owner(const char *name, uid_t uid)
{
    struct stat st;

    assert_int_equal(lstat(name, &st), 0);
    assert_int_equal(st.st_uid, uid);
    assert_int_equal(st.st_gid, uid);
}

static void test_root_leaves_files_to_the_owner(void **state)
{
    static const char *const names[] = {
        "a", ".autocert", ".autocert/a", ".autocert/lock", ".autocert/lock/a"
    };
    autocert_cache_lock_t *lock = NULL;

    (void)state;
    if (geteuid() != 0) {
        skip();
    }
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(chown(path, NOBODY, NOBODY), 0);
    assert_int_equal(put(SHARED, "a", "1"), APR_SUCCESS);
    assert_int_equal(put(PRIVATE, "a", "1"), APR_SUCCESS);
    assert_int_equal(dir->lock(cache, "a", &lock, pool), APR_SUCCESS);
    dir->unlock(cache, lock);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        assert_owner(inside(names[i]), NOBODY);
    }
    write_file(inside("b"), "root's");
    assert_int_equal(put(SHARED, "b", "2"), APR_SUCCESS);
    assert_owner(inside("b"), NOBODY);
    /* a lock file that is there already is not given away: it may be a link to another's */
    write_file(inside(".autocert/lock/c"), "");
    assert_int_equal(dir->lock(cache, "c", &lock, pool), APR_SUCCESS);
    dir->unlock(cache, lock);
    assert_owner(inside(".autocert/lock/c"), 0);
}

static void test_symbolic_links(void **state)
{
    const char *target = apr_pstrcat(pool, base, "/target", NULL);
    autocert_cache_lock_t *lock = NULL;
    autocert_cache_stat_t st;
    char *data;

    (void)state;
    write_file(target, "behind the link");
    assert_int_equal(put(PRIVATE, "x", "1"), APR_SUCCESS);
    assert_int_equal(symlink(target, inside("a")), 0);
    assert_int_equal(symlink("/nowhere", inside("dangling")), 0);
    assert_int_equal(symlink(target, inside(".autocert/a")), 0);
    /* shared values are read through links as Go does; ours never are links */
    assert_int_equal(get(SHARED, "a", &data), APR_SUCCESS);
    assert_string_equal(data, "behind the link");
    assert_int_equal(dir->stat(cache, SHARED, "a", &st, pool), APR_SUCCESS);
    assert_int_equal(st.size, 15);
    assert_int_equal(get(SHARED, "dangling", &data), APR_NOTFOUND);
    assert_int_equal(get(PRIVATE, "a", &data), ELOOP);
    assert_int_not_equal(dir->stat(cache, PRIVATE, "a", &st, pool), APR_SUCCESS);
    /* writing replaces the link, removing removes it; the target is untouched */
    assert_int_equal(put(SHARED, "a", "own"), APR_SUCCESS);
    assert_int_equal(get(SHARED, "a", &data), APR_SUCCESS);
    assert_string_equal(data, "own");
    assert_int_equal(dir->remove(cache, PRIVATE, "a", pool), APR_SUCCESS);
    assert_int_equal(mode_of(target), 0600);
    assert_int_equal(symlink(target, inside("a2")), 0);
    assert_int_equal(dir->remove(cache, SHARED, "a2", pool), APR_SUCCESS);
    assert_int_equal(access(target, F_OK), 0);
    /* locks */
    assert_int_equal(dir->lock(cache, "x", &lock, pool), APR_SUCCESS);
    dir->unlock(cache, lock);
    assert_int_equal(symlink(target, inside(".autocert/lock/l")), 0);
    assert_int_equal(dir->lock(cache, "l", &lock, pool), ELOOP);
    /* the private directory itself */
    assert_int_equal(rename(inside(".autocert"), inside("moved")), 0);
    assert_int_equal(symlink("moved", inside(".autocert")), 0);
    assert_int_not_equal(get(PRIVATE, "x", &data), APR_SUCCESS);
    assert_int_not_equal(put(PRIVATE, "x", "2"), APR_SUCCESS);
    assert_int_not_equal(dir->lock(cache, "x", &lock, pool), APR_SUCCESS);
}

static void test_what_is_no_regular_file(void **state)
{
    autocert_cache_stat_t st;
    char *data;

    (void)state;
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(mkdir(inside("d"), 0700), 0);
    assert_int_equal(mkfifo(inside("pipe"), 0600), 0);
    assert_int_equal(get(SHARED, "d", &data), EISDIR);
    assert_int_equal(dir->stat(cache, SHARED, "d", &st, pool), EISDIR);
    assert_int_not_equal(put(SHARED, "d", "1"), APR_SUCCESS);
    assert_int_equal(get(SHARED, "pipe", &data), APR_EINVAL);      /* and does not block */
    assert_int_equal(count_entries(path), 2);                       /* no temporary file left */
    assert_int_equal(symlink("/dev/zero", inside("zero")), 0);
    assert_int_equal(get(SHARED, "zero", &data), APR_EINVAL);
}

static void test_cache_path_is_a_file(void **state)
{
    char *data;

    (void)state;
    write_file(path, "");
    assert_int_equal(get(SHARED, "a", &data), ENOTDIR);
    assert_int_equal(put(SHARED, "a", "1"), ENOTDIR);
}

static void test_size_bound(void **state)
{
    autocert_cache_stat_t st;
    char *big = apr_palloc(pool, AUTOCERT_CACHE_VALUE_MAX + 2);
    char *data;
    apr_size_t len;

    (void)state;
    memset(big, 'x', AUTOCERT_CACHE_VALUE_MAX + 1);
    big[AUTOCERT_CACHE_VALUE_MAX + 1] = '\0';
    assert_int_equal(mkdir(path, 0700), 0);
    write_file(inside("a"), big);
    assert_int_equal(get(SHARED, "a", &data), APR_ENOSPC);
    assert_int_equal(dir->stat(cache, SHARED, "a", &st, pool), APR_ENOSPC);
    assert_int_equal(dir->put(cache, SHARED, "a", big, AUTOCERT_CACHE_VALUE_MAX, pool),
                     APR_SUCCESS);
    assert_int_equal(dir->get(cache, SHARED, "a", &data, &len, pool), APR_SUCCESS);
    assert_int_equal(len, AUTOCERT_CACHE_VALUE_MAX);
    assert_int_equal(put(SHARED, "empty", ""), APR_SUCCESS);
    assert_int_equal(get(SHARED, "empty", &data), APR_SUCCESS);
    assert_string_equal(data, "");
}

static void test_stat_tells_a_new_value(void **state)
{
    autocert_cache_stat_t a, b;

    (void)state;
    assert_int_equal(put(SHARED, "a", "1234"), APR_SUCCESS);
    assert_int_equal(dir->stat(cache, SHARED, "a", &a, pool), APR_SUCCESS);
    assert_int_equal(a.size, 4);
    assert_true(a.mtime > apr_time_now() - apr_time_from_sec(60)
                && a.mtime < apr_time_now() + apr_time_from_sec(60));
    assert_int_equal(dir->stat(cache, SHARED, "a", &b, pool), APR_SUCCESS);
    assert_true(a.serial == b.serial && a.mtime == b.mtime);
    assert_int_equal(put(SHARED, "a", "5678"), APR_SUCCESS);
    assert_int_equal(dir->stat(cache, SHARED, "a", &b, pool), APR_SUCCESS);
    assert_true(a.serial != b.serial);
}

static apr_status_t collect(void *baton, const char *key)
{
    const char **all = baton;

    *all = apr_pstrcat(pool, *all, key, " ", NULL);
    return strcmp(key, "end") == 0 ? APR_EOF : APR_SUCCESS;
}

static void test_list(void **state)
{
    const char *all = "";

    (void)state;
    assert_int_equal(put(SHARED, "a.example", "1"), APR_SUCCESS);
    assert_int_equal(put(PRIVATE, "a.example+state", "1"), APR_SUCCESS);
    write_file(inside(".hidden"), "");
    write_file(inside("bad:key"), "");
    assert_int_equal(mkdir(inside("lost+found"), 0700), 0);
    assert_int_equal(dir->list(cache, SHARED, collect, &all, pool), APR_SUCCESS);
    assert_string_equal(all, "a.example ");
    all = "";
    assert_int_equal(dir->list(cache, PRIVATE, collect, &all, pool), APR_SUCCESS);
    assert_string_equal(all, "a.example+state ");
    assert_int_equal(put(PRIVATE, "end", "1"), APR_SUCCESS);
    assert_int_equal(dir->list(cache, PRIVATE, collect, &all, pool), APR_EOF);
}

static void age_file(const char *name, time_t seconds)
{
    struct timespec times[2] = { { .tv_sec = time(NULL) - seconds },
                                 { .tv_sec = time(NULL) - seconds } };

    write_file(name, "x");
    assert_int_equal(utimensat(AT_FDCWD, name, times, AT_SYMLINK_NOFOLLOW), 0);
}

static void test_sweep_takes_our_old_temporary_files_only(void **state)
{
    (void)state;
    assert_int_equal(put(PRIVATE, "x", "1"), APR_SUCCESS);
    age_file(inside(TEMP_NAME), 7200);
    age_file(inside(".autocert/" TEMP_NAME), 7200);
    age_file(inside(".tmp-autocert-00000000000000000000000000000000"), 60);
    age_file(inside(".tmp-autocert-other"), 7200);
    age_file(inside("example.org1164832424"), 7200);
    assert_int_equal(cache_dir_sweep(path, apr_time_now(), apr_time_from_sec(3600), pool),
                     APR_SUCCESS);
    assert_int_equal(access(inside(TEMP_NAME), F_OK), -1);
    assert_int_equal(access(inside(".autocert/" TEMP_NAME), F_OK), -1);
    assert_int_equal(access(inside(".tmp-autocert-00000000000000000000000000000000"), F_OK), 0);
    assert_int_equal(access(inside(".tmp-autocert-other"), F_OK), 0);
    assert_int_equal(access(inside("example.org1164832424"), F_OK), 0);
    assert_int_equal(access(inside(".autocert/x"), F_OK), 0);
}

/* In a child: try the lock and tell what came of it. */
static apr_status_t lock_in_child(const char *key)
{
    int status = 0;
    pid_t child = fork();

    if (child == 0) {
        autocert_cache_lock_t *lock = NULL;
        apr_status_t rv = dir->lock(cache, key, &lock, pool);

        _exit(rv == APR_SUCCESS ? 0 : APR_STATUS_IS_EBUSY(rv) ? 1 : 2);
    }
    waitpid(child, &status, 0);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 2);
    return WEXITSTATUS(status) ? APR_EBUSY : APR_SUCCESS;
}

static void test_lock_over_processes(void **state)
{
    autocert_cache_lock_t *lock = NULL;

    (void)state;
    assert_int_equal(dir->lock(cache, "a", &lock, pool), APR_SUCCESS);
    assert_int_equal(lock_in_child("a"), APR_EBUSY);
    assert_int_equal(lock_in_child("b"), APR_SUCCESS);
    dir->unlock(cache, lock);
    assert_int_equal(lock_in_child("a"), APR_SUCCESS);
    assert_int_equal(access(inside(".autocert/lock/a"), F_OK), 0);
}

static void test_killed_holder_frees_its_lock(void **state)
{
    autocert_cache_lock_t *lock = NULL;
    int ready[2];
    pid_t child;
    char c;

    (void)state;
    assert_int_equal(pipe(ready), 0);
    child = fork();
    if (child == 0) {
        c = dir->lock(cache, "a", &lock, pool) == APR_SUCCESS ? 'y' : 'n';
        if (write(ready[1], &c, 1) != 1) {
            _exit(1);
        }
        pause();
        _exit(0);
    }
    assert_int_equal(read(ready[0], &c, 1), 1);
    assert_int_equal(c, 'y');
    assert_int_equal(dir->lock(cache, "a", &lock, pool), APR_EBUSY);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    assert_int_equal(dir->lock(cache, "a", &lock, pool), APR_SUCCESS);
    dir->unlock(cache, lock);
    close(ready[0]);
    close(ready[1]);
}

/* A writer that is killed at any moment leaves the old value or the new one, whole. */
static void test_killed_writer_leaves_whole_values(void **state)
{
    static const apr_size_t sizes[2] = { 3000, 200000 };
    char *values[2];
    unsigned int seed = 1;

    (void)state;
    for (int i = 0; i < 2; i++) {
        values[i] = apr_palloc(pool, sizes[i]);
        memset(values[i], 'a' + i, sizes[i]);
    }
    assert_int_equal(dir->put(cache, SHARED, "a", values[0], sizes[0], pool), APR_SUCCESS);
    for (int round = 0; round < KILL_ROUNDS; round++) {
        apr_pool_t *own = NULL;
        apr_size_t len = 0;
        char *data = NULL;
        pid_t child = fork();

        if (child == 0) {
            for (int i = 0;; i = !i) {
                dir->put(cache, SHARED, "a", values[i], sizes[i], pool);
            }
        }
        usleep((useconds_t)(rand_r(&seed) % 8000));
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        apr_pool_create(&own, NULL);
        assert_int_equal(dir->get(cache, SHARED, "a", &data, &len, own), APR_SUCCESS);
        assert_true(len == sizes[0] || len == sizes[1]);
        assert_memory_equal(data, values[len == sizes[1]], len);
        apr_pool_destroy(own);
    }
    assert_int_equal(cache_dir_sweep(path, apr_time_now() + apr_time_from_sec(1), 0, pool),
                     APR_SUCCESS);
    assert_int_equal(count_entries(path), 1);
}

static void test_full_disk_keeps_the_old_value(void **state)
{
    char *data;
    int status = -1;
    pid_t child;

    (void)state;
    assert_int_equal(put(SHARED, "a", "old"), APR_SUCCESS);
    child = fork();
    if (child == 0) {
        char big[8192];

        memset(big, 'x', sizeof(big));
        signal(SIGXFSZ, SIG_IGN);
        if (setrlimit(RLIMIT_FSIZE, &(struct rlimit){ 4096, 4096 }) != 0) {
            _exit(2);
        }
        _exit(dir->put(cache, SHARED, "a", big, sizeof(big), pool) == EFBIG ? 0 : 1);
    }
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    assert_int_equal(get(SHARED, "a", &data), APR_SUCCESS);
    assert_string_equal(data, "old");
    assert_int_equal(count_entries(path), 1);
}

static void test_check_argument(void **state)
{
    static const char *const relative[] = { "", "autocert", "./autocert", "~/autocert" };
    autocert_cache_user_t user = { getuid(), getgid(), 0 };
    const char *warning = NULL;
    const char *file = apr_pstrcat(pool, base, "/file", NULL);

    (void)state;
    for (size_t i = 0; i < sizeof(relative) / sizeof(relative[0]); i++) {
        assert_string_equal(dir->check(relative[i], &user, &warning, pool),
                            "AutocertCache dir:PATH needs an absolute path, write for example "
                            "dir:/var/lib/apache2/autocert");
    }
    write_file(file, "");
    assert_non_null(strstr(dir->check(file, &user, &warning, pool), "is not a directory"));
    assert_non_null(dir->check(apr_pstrcat(pool, file, "/below", NULL), &user, &warning, pool));
    assert_null(warning);
    assert_null(dir->check(path, &user, &warning, pool));
    assert_null(warning);
    assert_int_equal(access(path, F_OK), -1);
}

/* Owner and mode bits alone are looked at, so any user can be asked about. */
static void test_check_warns(void **state)
{
    const char *deep = apr_pstrcat(pool, path, "/a/b", NULL);
    autocert_cache_user_t owner = { getuid(), getgid(), 0 };
    autocert_cache_user_t other = { 4711, 4712, 0 };
    autocert_cache_user_t from_root = { 4711, 4712, 1 };
    const char *warning = NULL;

    (void)state;
    assert_int_equal(chmod(base, 0755), 0);
    /* missing: the parent decides, unless root makes it at start */
    assert_null(dir->check(path, &owner, &warning, pool));
    assert_null(warning);
    assert_null(dir->check(path, &from_root, &warning, pool));
    assert_null(warning);
    assert_null(dir->check(deep, &other, &warning, pool));
    assert_non_null(warning);
    assert_non_null(strstr(warning, apr_pstrcat(pool, "mkdir -p -m 700 ", deep, NULL)));
    assert_non_null(strstr(warning, apr_pstrcat(pool, "chown 4711:4712 ", deep, NULL)));
    /* there */
    warning = NULL;
    assert_int_equal(mkdir(path, 0700), 0);
    assert_null(dir->check(path, &owner, &warning, pool));
    assert_null(warning);
    assert_null(dir->check(path, &from_root, &warning, pool));
    assert_non_null(warning);
    assert_non_null(strstr(warning, apr_pstrcat(pool, "chown -R 4711:4712 ", path, NULL)));
    /* by group, by others */
    warning = NULL;
    assert_int_equal(chmod(path, 0777), 0);
    assert_null(dir->check(path, &other, &warning, pool));
    assert_null(warning);
    assert_int_equal(chmod(path, 0770), 0);
    other.gid = getgid();
    assert_null(dir->check(path, &other, &warning, pool));
    assert_null(warning);
    assert_int_equal(chmod(path, 0750), 0);
    assert_null(dir->check(path, &other, &warning, pool));
    assert_non_null(warning);
    assert_int_equal(count_entries(path), 0);
}

static void test_prepare_makes(void **state)
{
    const char *deep = apr_pstrcat(pool, base, "/p/q/cache/", NULL);
    int is_root = geteuid() == 0;
    autocert_cache_user_t user = { is_root ? NOBODY : getuid(), is_root ? NOBODY : getgid(),
                                   is_root };
    const char *warning = NULL;
    mode_t mask = umask(0);
    struct stat st;

    (void)state;
    assert_int_equal(dir->prepare(deep, &user, &warning, pool), APR_SUCCESS);
    umask(mask);
    assert_null(warning);
    assert_int_equal(mode_of(deep), 0700);
    assert_int_equal(mode_of(apr_pstrcat(pool, base, "/p/q", NULL)), 0755);
    assert_int_equal(stat(deep, &st), 0);
    assert_int_equal(st.st_uid, user.uid);
    assert_int_equal(stat(apr_pstrcat(pool, base, "/p/q", NULL), &st), 0);
    assert_int_equal(st.st_uid, geteuid());
    /* once more: it is there and right */
    assert_int_equal(dir->prepare(deep, &user, &warning, pool), APR_SUCCESS);
    assert_null(warning);
    assert_int_equal(count_entries(deep), 0);
}

static void test_prepare_judges(void **state)
{
    autocert_cache_user_t other = { 4711, 4712, 1 };
    autocert_cache_user_t self = { getuid(), getgid(), 0 };
    const char *warning = NULL;
    struct stat st;

    (void)state;
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(dir->prepare(path, &other, &warning, pool), APR_SUCCESS);
    assert_non_null(warning);
    assert_non_null(strstr(warning, apr_psprintf(pool, "is owned by uid %lu, but httpd's "
        "children run as uid 4711: run \"chown -R 4711:4712 %s\"", (unsigned long)getuid(),
        path)));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_uid, getuid());      /* nothing was changed */
    warning = NULL;
    assert_int_equal(chmod(path, 0750), 0);
    assert_int_equal(dir->prepare(path, &self, &warning, pool), APR_SUCCESS);
    assert_non_null(warning);
    assert_non_null(strstr(warning, apr_pstrcat(pool, "chmod 700 ", path, NULL)));
    assert_int_equal(mode_of(path), 0750);
    write_file(inside("f"), "");
    assert_int_equal(dir->prepare(inside("f"), &self, &warning, pool), ENOTDIR);
    assert_int_equal(dir->prepare(inside("f/g"), &self, &warning, pool), ENOTDIR);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_life_of_a_value),
        TEST(test_missing_directory),
        TEST(test_directory_replaced_meanwhile),
        TEST(test_modes),
        TEST(test_root_leaves_files_to_the_owner),
        TEST(test_symbolic_links),
        TEST(test_what_is_no_regular_file),
        TEST(test_cache_path_is_a_file),
        TEST(test_size_bound),
        TEST(test_stat_tells_a_new_value),
        TEST(test_list),
        TEST(test_sweep_takes_our_old_temporary_files_only),
        TEST(test_lock_over_processes),
        TEST(test_killed_holder_frees_its_lock),
        TEST(test_killed_writer_leaves_whole_values),
        TEST(test_full_disk_keeps_the_old_value),
        TEST(test_check_argument),
        TEST(test_check_warns),
        TEST(test_prepare_makes),
        TEST(test_prepare_judges)
    };

    return RUN_TESTS(tests);
}
