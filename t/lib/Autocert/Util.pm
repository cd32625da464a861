# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# What all of the harness needs: bounded waiting, ports, files, programs, and a
# register of the processes that a test started, which the runner sweeps.
package Autocert::Util;

use strict;
use warnings;

use Exporter 'import';
use File::Path ();
use IO::Socket::INET ();
use POSIX ();
use Time::HiRes ();

our @EXPORT_OK = qw(wait_until nap free_ports slurp spit scratch build_dir run_program spawn
    reap_within forget_process process_lives can_connect on_exit fail_file);

use constant {
    POLL_SECONDS => 0.05,
    PORT_TRIES   => 200,     # candidates looked at for one free port
    PORT_FIRST   => 10_000,  # lowest port the harness takes
    RUN_SECONDS  => 60,      # bound of one helper program
};

# The directory of this run, made by t/run.
sub scratch
{
    my $dir = $ENV{AUTOCERT_SCRATCH};
    die "AUTOCERT_SCRATCH is not set: run tests with t/run\n" unless defined $dir && -d $dir;
    return $dir;
}

sub build_dir
{
    return $ENV{AUTOCERT_BUILD} // die "AUTOCERT_BUILD is not set: run tests with t/run\n";
}

sub nap
{
    select undef, undef, undef, $_[0] // POLL_SECONDS;
    return;
}

# Call the function until it returns something true, and return that. After the
# given seconds: undef, and a line of diagnosis if $what says what was awaited.
sub wait_until
{
    my ($seconds, $check, $what) = @_;

    my $end = Time::HiRes::time() + $seconds;
    for (;;) {
        my $late = Time::HiRes::time() >= $end;
        my $result = $check->();
        return $result if $result;
        last if $late;
        nap();
    }
    if (defined $what) {
        require Test::Builder;
        Test::Builder->new->diag("not within $seconds s: $what");
    }
    return;
}

# Distinct free loopback ports. They lie below the range that the kernel takes for
# outgoing connections: nothing grabs one while its server is being restarted. AUTOCERT_PORTS=2/3 is the
# second third of them: runs side by side keep out of each other's way.
my %taken;

sub free_ports
{
    my ($count) = @_;

    my $top = 32_768;
    if (open my $range, '<', '/proc/sys/net/ipv4/ip_local_port_range') {
        my ($first) = split ' ', <$range>;
        $top = $first if $first > PORT_FIRST + 1000;
    }
    my ($share, $shares) = ($ENV{AUTOCERT_PORTS} // '1/1') =~ m{^(\d+)/(\d+)$};
    my $width = int(($top - PORT_FIRST) / $shares);
    my @ports;
    for (1 .. $count) {
        my $port;
        for (1 .. PORT_TRIES) {
            my $try = PORT_FIRST + ($share - 1) * $width + int rand $width;
            next if $taken{$try};
            # No reuse flag: a port in any state of use is refused.
            IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1', LocalPort => $try,
                Proto => 'tcp', ReuseAddr => 0)
                and IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $try,
                Proto => 'udp')
                or next;
            $port = $try;
            last;
        }
        die "no free port in " . PORT_TRIES . " tries\n" unless defined $port;
        $taken{$port} = 1;
        push @ports, $port;
    }
    return wantarray ? @ports : $ports[0];
}

sub can_connect
{
    my ($port) = @_;
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port,
        Proto => 'tcp', Timeout => 2);
    return $socket ? 1 : 0;
}

# A file's bytes from an offset on; undef if there is no such file.
sub slurp
{
    my ($file, $offset) = @_;
    open my $in, '<:raw', $file or return;
    seek $in, $offset, 0 if $offset;
    local $/;
    my $text = <$in>;
    return $text // '';
}

sub spit
{
    my ($file, $text, $mode) = @_;
    open my $out, '>:raw', $file or die "$file: $!\n";
    print {$out} $text or die "$file: $!\n";
    close $out or die "$file: $!\n";
    if (defined $mode) {
        chmod $mode, $file or die "$file: $!\n";
    }
    return $file;
}

# Run a program to its end: (exit status or 128 + signal, its output and errors
# together). Status 124 is that it did not end in time. Options: env, seconds.
sub run_program
{
    my ($argv, %opt) = @_;

    my $file = scratch() . "/output.$$";
    my $pid = spawn($argv, env => $opt{env}, output => $file);
    my $status = reap_within($pid, $opt{seconds} // RUN_SECONDS);
    if (!defined $status) {
        kill 'KILL', $pid;
        reap_within($pid, 10);
    }
    my $text = slurp($file);
    unlink $file;
    return (124, $text) unless defined $status;
    return ($status & 127 ? 128 + ($status & 127) : $status >> 8, $text);
}

# Start a program in the background, output and errors appended to a file. It is
# written down in the register until reap_within() has seen its end.
sub spawn
{
    my ($argv, %opt) = @_;

    my $pid = fork // die "fork: $!\n";
    if ($pid == 0) {
        # A session of its own: prefork signals its whole process group, and that
        # must not be the test's.
        POSIX::setsid();
        open STDIN, '<', '/dev/null' or POSIX::_exit(126);
        open STDOUT, '>>', $opt{output} or POSIX::_exit(126);
        open STDERR, '>&', \*STDOUT or POSIX::_exit(126);
        my %env = %{ $opt{env} // {} };
        for my $name (keys %env) {
            if (defined $env{$name}) {
                $ENV{$name} = $env{$name};
            }
            else {
                delete $ENV{$name};
            }
        }
        chdir $opt{dir} or POSIX::_exit(126) if defined $opt{dir};
        no warnings 'exec';
        exec { $argv->[0] } @$argv or do {
            syswrite STDERR, "$argv->[0]: $!\n";
            POSIX::_exit(127);
        };
    }
    my $register = scratch() . '/pids';
    spit("$register/$pid", "@$argv\n") if -d $register;
    return $pid;
}

# The wait status of a child, or undef if it does not end in time.
sub reap_within
{
    my ($pid, $seconds) = @_;
    my $status;
    wait_until($seconds, sub {
        my $got = waitpid $pid, POSIX::WNOHANG();
        return 0 if $got == 0;
        $status = $got == $pid ? $? : 0;
        return 1;
    });
    forget_process($pid) if defined $status;
    return $status;
}

sub forget_process
{
    my ($pid) = @_;
    unlink scratch() . "/pids/$pid";
    return;
}

# True while the process exists and is no zombie.
sub process_lives
{
    my ($pid) = @_;
    my $stat = slurp("/proc/$pid/stat") // return 0;
    return $stat =~ /\)\s+[ZX]\s/ ? 0 : 1;
}

# Things to do when the test program ends, latest first; they are given its exit
# status, as $? changes with every process reaped. A forked helper does none of them.
my $owner = $$;
my @at_exit;
my $failed;

sub on_exit
{
    push @at_exit, $_[0];
    return;
}

# Make the test file fail for a reason found after its last assertion.
sub fail_file
{
    my ($why) = @_;
    require Test::Builder;
    Test::Builder->new->diag($why);
    $failed = 1;
    return;
}

sub file_failed { return $failed }

# Without these, a signal would end the test without its END blocks and leave
# servers behind.
$SIG{$_} = sub { exit 1 } for qw(INT TERM HUP);
$SIG{PIPE} = 'IGNORE';

END {
    if ($$ == $owner) {
        my $status = $?;
        for my $action (reverse @at_exit) {
            eval { $action->($status); 1 } or fail_file("at exit: $@");
        }
        # Test::Builder's own END block runs after this one and turns a non-zero
        # status into a failure of the file.
        $? = $status || ($failed ? 1 : 0);
    }
}

# Loaded here so that its END block is older, and so runs later, than ours.
BEGIN { require Test::Builder }

1;
