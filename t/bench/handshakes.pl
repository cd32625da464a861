# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# seconds: 1800
#
# What a full handshake costs the server, with the same key pair served by this
# module and by mod_ssl alone. Both servers run all the time, rounds alternate
# between them, and the medians are compared. Only the CPU time of httpd counts.
# Time is a noisy thing on a shared machine, so valgrind also counts the
# instructions, which come out the same every time.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use Autocert::Bench qw(quick report table median cpu_seconds fill_cache host bench_program);
use Autocert::Client qw(handshake);
use Autocert::Server;
use Autocert::Util qw(wait_until slurp spit run_program free_ports);

use constant {
    RATIO_MAX     => 1.05,
    # Too few handshakes make the number a throw of dice: a smoke run looks for disasters.
    QUICK_RATIO_MAX => 1.3,
    ROUND_SECONDS => 300,
    READY_SECONDS => 30,
    COUNT_SECONDS => 120,    # of a server under valgrind
    FEW           => 20,     # the work at start is what two runs have in common
};

my $rounds = $ENV{AUTOCERT_BENCH_ROUNDS} // (quick() ? 5 : 61);
my $count = $ENV{AUTOCERT_BENCH_COUNT} // (quick() ? 100 : 200);
my $limit = quick() ? QUICK_RATIO_MAX : RATIO_MAX;
my $name = host(0);
my $dead = free_ports(1);

# One child that never changes: a process clock is read before and after.
my %common = (loglevel => 'warn', start_servers => 1, server_limit => 1, threads => 8);

my $managed_config = <<"CONF";
AutocertCA https://localhost:\@dead\@/dir
AutocertAcceptTOS on
AutocertCache dir:\@cache\@
<VirtualHost 127.0.0.1:\@https\@>
    AutocertDomain $name
</VirtualHost>
CONF
my %for_managed = (vars => { dead => $dead }, config => $managed_config);
my $managed = Autocert::Server->new(%common, %for_managed, name => 'managed');
my $cafile = $managed->root . '/ca.pem';
fill_cache($managed->cache, $cafile, 1, $managed->user);

my ($key, $chain) = slurp($managed->cache_file($name)) =~ /\A(.*?)(-----BEGIN CERTIFICATE.*)\z/s;
my $pair = $managed->root . '/conf/pair';
spit("$pair.pem", $chain);
spit("$pair.key", $key, 0600);
my %for_plain = (module => 0, config => <<"CONF");
<VirtualHost 127.0.0.1:\@https\@>
    ServerName $name
    SSLEngine on
    SSLCertificateFile $pair.pem
    SSLCertificateKeyFile $pair.key
</VirtualHost>
CONF
my $plain = Autocert::Server->new(%common, %for_plain, name => 'plain');

sub run_round
{
    my ($server, $tls, $n) = @_;

    my @pids = ($server->pid, $server->children);
    my $before = cpu_seconds(@pids);
    my ($status, $text) = run_program(
        [bench_program('bench_handshakes'), $server->https, $name, $tls, $n, $cafile],
        seconds => ROUND_SECONDS);
    die "bench_handshakes: $text" if $status;
    return (cpu_seconds(@pids) - $before) / $n * 1e6;
}

# --- Instructions ---

# One process that valgrind watches from its start to its end.
package Counted {
    our @ISA = ('Autocert::Server');

    sub command
    {
        my ($self) = @_;
        return ['valgrind', '-q', '--vgdb=no', '--tool=callgrind',
            "--callgrind-out-file=$self->{root}/logs/callgrind", @{ $self->SUPER::command('-X') }];
    }
}

sub total_instructions
{
    my ($server, $tls, $n) = @_;

    # It starts to write as root and ends as the server's user.
    my $out = spit($server->root . '/logs/callgrind', '', 0666);
    $server->launch;
    wait_until(COUNT_SECONDS, sub {
        handshake(port => $server->https, sni => $name, ca => $cafile)->{ok};
    }, "$server->{name} to serve $name") or die "$server->{name} does not serve\n";
    my ($status, $text) = run_program(
        [bench_program('bench_handshakes'), $server->https, $name, $tls, $n, $cafile],
        seconds => COUNT_SECONDS);
    die "bench_handshakes: $text" if $status;
    $server->stop;
    slurp($out) =~ /^(?:summary|totals): (\d+)/m or die "callgrind wrote no summary\n";
    return $1;
}

# For one handshake: what more of them cost.
sub count_instructions
{
    my ($tls, %server) = @_;
    my $many = quick() ? 2 * FEW : 10 * FEW;
    my %each = map {
        $_ => (total_instructions($server{$_}, $tls, $many)
                - total_instructions($server{$_}, $tls, FEW)) / ($many - FEW);
    } keys %server;
    return @each{qw(managed plain)};
}

# --- Time ---

my %fingerprint;
for my $server ($managed, $plain) {
    ok $server->start, "$server->{name} starts" or exit 1;
    my $seen = wait_until(READY_SECONDS, sub {
        my $seen = handshake(port => $server->https, sni => $name, ca => $cafile);
        return $seen->{ok} ? $seen : 0;
    }, "$server->{name} to serve $name") or exit 1;
    $fingerprint{ $server->{name} } = $seen->{fingerprint};
}
is $fingerprint{managed}, $fingerprint{plain}, 'both serve the same certificate';

my @rows = ['TLS', 'mod_ssl us', 'this module us', 'difference us', 'ratio', 'goal'];
for my $tls ('1.3', '1.2') {
    my (%cost, @ratios);
    run_round($_, $tls, $count) for $managed, $plain;
    for my $round (1 .. $rounds) {
        # Whoever is first must not always be the same: neighbours' load comes and goes.
        my %now;
        for my $server ($round % 2 ? ($plain, $managed) : ($managed, $plain)) {
            $now{ $server->{name} } = run_round($server, $tls, $count);
            push @{ $cost{ $server->{name} } }, $now{ $server->{name} };
        }
        push @ratios, $now{managed} / $now{plain};
    }
    my ($ours, $theirs) = map { median(@{ $cost{$_} }) } qw(managed plain);
    my $ratio = median(@ratios);
    push @rows, [$tls, sprintf('%.1f', $theirs), sprintf('%.1f', $ours),
        sprintf('%+.1f', $ours - $theirs), sprintf('%.3f', $ratio), "<= $limit"];
    cmp_ok $ratio, '<=', $limit, "TLS $tls: server CPU of a full handshake";
}
table("Server CPU of one full handshake (connection included), P-256, median of $rounds rounds "
        . "of $count; ratio: median over the pairs of rounds", @rows);
$_->stop for $managed, $plain;

@rows = ['TLS', 'mod_ssl', 'this module', 'difference', 'ratio', 'goal'];
for my $tls ('1.3', '1.2') {
    my %server = (
        plain => Counted->new(%common, %for_plain, name => "plain$tls", mpm => 'prefork'),
        managed => Counted->new(%common, %for_managed, name => "managed$tls", mpm => 'prefork',
            cache => $managed->cache),
    );
    my ($ours, $theirs) = count_instructions($tls, %server);
    my $ratio = $ours / $theirs;
    push @rows, [$tls, (map { sprintf '%.0f', $_ } $theirs, $ours),
        sprintf('%+.0f', $ours - $theirs), sprintf('%.3f', $ratio), '<= ' . RATIO_MAX];
    cmp_ok $ratio, '<=', RATIO_MAX, "TLS $tls: instructions of a full handshake";
}
table('Instructions of one full handshake, counted by callgrind', @rows);

done_testing;
