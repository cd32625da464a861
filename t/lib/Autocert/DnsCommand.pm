# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# A program for AutocertDNSCommand that sets records in the DNS of a Pebble, and writes down how it was run.
#
#   my $command = Autocert::DnsCommand->new(dns => $pebble->{dns});
#   ... "AutocertDNSCommand " . $command->program . " wait=0"
#   my @runs = $command->runs('present');      # hashes: argv, env, stdin, cwd, uid, pid, leads (a process group),
#                                              # files (open ones), blocked and ignored (signals, in hex), child
#
# The first of its arguments before "present" or "cleanup", if there are any, is what it does:
#   set        what it is there for; so without any
#   lie        nothing, but it says that all is well
#   fail       a line of output and status 3
#   hang       it does not end
#   stubborn   the same, and it does not mind SIGTERM
#   flood      some megabytes of output, and status 4
#   children   "set", and a process stays behind
#   daemon     the same, and that has a session of its own, but still the output of the program
#   leave      "set", but it fails to clean up
#
# The DNS forgets all values of a name at once, so they are taken away with the last of them.
package Autocert::DnsCommand;

use strict;
use warnings;

use File::Path ();
use JSON::PP ();

use Autocert::Server ();
use Autocert::Util qw(slurp spit);

my $PROGRAM = <<'PERL';
use strict;
use warnings;
use Cwd ();
use Fcntl qw(:flock);
use IO::Socket::INET ();
use JSON::PP ();
use POSIX ();

my @argv = @ARGV;
my ($action, $fqdn, $value) = splice @ARGV, -3;
my $mode = $ARGV[0] // 'set';
my $stdin = do { local $/; <STDIN> };
my @files = grep { $_ ne $0 && !m{^/proc/} } map { readlink($_) // () } glob '/proc/self/fd/*';
my ($blocked, $ignored) = do { open my $in, '<', '/proc/self/status'; map { /^Sig(?:Blk|Ign):\s*(\S+)/ } <$in> };

sub note
{
    my (%more) = @_;
    open my $out, '>>', "$dir/runs" or die "runs: $!\n";
    flock $out, LOCK_EX;
    syswrite $out, JSON::PP->new->canonical->encode({ argv => \@argv, env => {%ENV}, stdin => $stdin,
        cwd => Cwd::getcwd(), uid => $<, pid => $$, leads => getpgrp() == $$ ? 1 : 0,
        files => \@files, blocked => $blocked, ignored => $ignored, %more }) . "\n";
    return;
}

sub post
{
    my ($command, %argument) = @_;
    my $body = JSON::PP::encode_json(\%argument);
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $management, Timeout => 10)
        or die "DNS: $@\n";
    print {$socket} "POST /$command HTTP/1.0\r\nContent-Length: " . length($body) . "\r\n\r\n$body";
    my $answer = do { local $/; <$socket> } // '';
    die "DNS: $answer\n" unless $answer =~ m{^HTTP/1\.\d 200 };
    return;
}

sub set
{
    open my $lock, '>>', "$dir/lock" or die "lock: $!\n";
    flock $lock, LOCK_EX;
    my $file = "$dir/values-$fqdn";
    my %count;
    if (open my $in, '<', $file) {
        %count = %{ JSON::PP::decode_json(do { local $/; <$in> }) };
    }
    if ($action eq 'present') {
        post('set-txt', host => $fqdn, value => $value) unless $count{$value}++;
    }
    else {
        delete $count{$value};
        post('clear-txt', host => $fqdn) unless %count;
    }
    open my $out, '>', $file or die "$file: $!\n";
    print {$out} JSON::PP::encode_json(\%count);
    close $out or die "$file: $!\n";
    return;
}

$SIG{TERM} = 'IGNORE' if $mode eq 'stubborn';
if ($mode eq 'children' || $mode eq 'daemon') {
    my $child = fork // die "fork: $!\n";
    if ($child == 0) {
        POSIX::setsid() if $mode eq 'daemon';
        exec 'sleep', '600';
        die "exec: $!\n";
    }
    note(child => $child);
    set();
    exit 0;
}
note();
if ($mode eq 'leave') {
    die "the record is not mine\n" if $action eq 'cleanup';
    $mode = 'set';
}
if ($mode eq 'fail') {
    $| = 1;
    print STDOUT "asking the provider\n";
    print STDERR "the provider says no\n";
    exit 3;
}
if ($mode eq 'hang' || $mode eq 'stubborn') {
    sleep 1 while 1;
}
if ($mode eq 'flood') {
    $| = 1;
    my $line = ('x' x 99) . "\n";
    print $line x 10_000 for 1 .. 4;
    print "the zone is locked\n";
    exit 4;
}
set() if $mode eq 'set';
PERL

my $count = 0;

sub new
{
    my ($class, %arg) = @_;

    my $self = bless {%arg}, $class;
    $count++;
    $self->{dir} = Autocert::Server::work_dir() . "/dns-command$count";
    File::Path::remove_tree($self->{dir});
    File::Path::make_path($self->{dir});
    # Children of httpd run it.
    chmod 0777, $self->{dir} or die "$self->{dir}: chmod: $!\n";
    spit($self->program, "#!$^X\nmy \$dir = '$self->{dir}';\nmy \$management = "
            . "$self->{dns}{management};\n$PROGRAM", 0755);
    return $self;
}

sub dir     { return $_[0]{dir} }
sub program { return "$_[0]{dir}/program" }

# As hashes, of one action if it is given.
sub runs
{
    my ($self, $action) = @_;
    my @runs = map { JSON::PP::decode_json($_) } grep { /\S/ } split /\n/, slurp("$self->{dir}/runs") // '';
    return @runs unless defined $action;
    return grep { $_->{argv}[-3] eq $action } @runs;
}

# How many values are set now: all have been taken away when it is none.
sub values_left
{
    my ($self) = @_;
    my $left = 0;
    for my $file (glob "$self->{dir}/values-*") {
        my $text = slurp($file);
        # It may be writing just now.
        $left += $text =~ /\}\z/ ? keys %{ JSON::PP::decode_json($text) } : 1;
    }
    return $left;
}

1;
