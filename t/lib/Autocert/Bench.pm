# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# What the benchmarks in t/bench share: tables, clocks, memory, filled caches.
package Autocert::Bench;

use strict;
use warnings;

use Exporter 'import';
use File::Path ();
use Time::HiRes ();

use Autocert::Util qw(slurp build_dir run_program);

our @EXPORT_OK = qw(quick report table median cpu_seconds memory fill_cache host bench_program);

use constant {
    SCHED_CLOCK  => 2,      # CPUCLOCK_SCHED of <linux/posix-timers.h>: exact, not sampled
    FILL_SECONDS => 300,
    CELL_GAP     => '  ',
};

# A smoke run: small numbers, every goal still looked at.
sub quick { return $ENV{AUTOCERT_BENCH_QUICK} ? 1 : 0 }

# The n-th name of bench_fill.
sub host { return sprintf 'host%05d.example.test', $_[0] }

sub bench_program
{
    my ($name) = @_;
    my $path = build_dir() . "/bench/$name";
    die "$path is missing: use make bench\n" unless -x $path;
    return $path;
}

# Results go to stderr, which the runner of the tests shows as it comes.
sub report
{
    print STDERR map { "$_\n" } @_;
    return;
}

# The first row is the head; every column but the first is aligned to the right.
sub table
{
    my ($title, @rows) = @_;

    my @width;
    for my $row (@rows) {
        for my $i (0 .. $#$row) {
            my $length = length $row->[$i];
            $width[$i] = $length if !$width[$i] || $width[$i] < $length;
        }
    }
    my @lines = map {
        my $row = $_;
        join CELL_GAP, map { sprintf $_ ? "%$width[$_]s" : "%-$width[$_]s", $row->[$_] }
            0 .. $#$row;
    } @rows;
    splice @lines, 1, 0, join CELL_GAP, map { '-' x $_ } @width;
    report('', $title, '', (map { s/\s+$//r } @lines), '');
    return;
}

sub median
{
    my @sorted = sort { $a <=> $b } @_;
    my $half = int @sorted / 2;
    return @sorted % 2 ? $sorted[$half] : ($sorted[$half - 1] + $sorted[$half]) / 2;
}

# CPU time of these processes, threads that are gone included, in nanosecond resolution.
sub cpu_seconds
{
    my (@pids) = @_;
    my $sum = 0;
    for my $pid (@pids) {
        my $seconds = Time::HiRes::clock_gettime((~$pid << 3) | SCHED_CLOCK);
        die "process $pid is gone\n" if $seconds < 0;
        $sum += $seconds;
    }
    return $sum;
}

# {rss, private} of one process in MB: all that is mapped, and what no other process shares.
sub memory
{
    my ($pid) = @_;
    my $text = slurp("/proc/$pid/smaps_rollup") // die "no smaps_rollup of process $pid\n";
    my $sum = sub {
        my $kb = 0;
        for my $field (@_) {
            $kb += $text =~ /^$field:\s+(\d+) kB/m ? $1 : 0;
        }
        return $kb / 1024;
    };
    return { rss => $sum->('Rss'), private => $sum->('Private_Clean', 'Private_Dirty') };
}

# A cache directory of that many valid certificates that belongs to the server's user.
sub fill_cache
{
    my ($dir, $cafile, $count, $user) = @_;

    File::Path::remove_tree($dir);
    File::Path::make_path($dir);
    my ($status, $text) = run_program([bench_program('bench_fill'), $dir, $cafile, $count],
        seconds => FILL_SECONDS);
    die "bench_fill: $text" if $status;
    chmod 0700, $dir or die "$dir: $!\n";
    if ($> == 0) {
        my ($uid, $gid) = (getpwnam $user)[2, 3];
        chown $uid, $gid, $dir, glob "$dir/*";
    }
    return;
}

1;
