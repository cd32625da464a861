# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# seconds: 3000
#
# A hundred virtual hosts with one name each and an empty cache: how long from the
# start of httpd until all of them are served with certificates that verify. This
# module under each MPM, without a restart; mod_md under event, with the one
# graceful restart it needs, made the moment it has the last certificate. Both have
# a Pebble of their own with the same settings.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use File::Path ();
use Time::HiRes ();

use Autocert::Bench qw(quick report table host bench_program cpu_seconds);
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(slurp nap run_program);

use constant {
    FACTOR_MIN  => 3,
    # With few names the start of httpd, the same for both, is most of it.
    QUICK_FACTOR_MIN => 1,
    SLEEP_NAMES => 20,
    RUN_SECONDS => 600,     # bound of one run
    STUCK_SECONDS => 30,    # without a new certificate: mod_md is restarted all the same
    POLL_SECONDS => 0.1,    # how often the files are looked at; the machine is busy enough
};

my $goal = quick() ? QUICK_FACTOR_MIN : FACTOR_MIN;
my $count = $ENV{AUTOCERT_BENCH_NAMES} // (quick() ? 10 : 100);
# A CA that sleeps before each validation takes its time with mod_md, which asks for one
# certificate after the other.
my $count_sleep = $count < SLEEP_NAMES ? $count : SLEEP_NAMES;
my @runs = (
    { mpm => 'event' },
    { mpm => 'worker' },
    { mpm => 'prefork' },
    { mpm => 'event', challenge => 'http-01' },
    { mpm => 'event', md => 1 },
    quick() ? () : { mpm => 'event', md => 1, challenge => 'http-01' },
    { mpm => 'event', sleep => 1 },
    quick() ? () : { mpm => 'event', md => 1, sleep => 1 },
);
for my $run (@runs) {
    $run->{what} = $run->{md} ? 'mod_md' : 'this module';
    $run->{challenge} //= 'tls-alpn-01';
    $run->{ca} = $run->{sleep} ? 'sleeps' : 'prompt';
    $run->{names} = [map { host($_) } 0 .. ($run->{sleep} ? $count_sleep : $count) - 1];
}

sub managed_config
{
    my ($run) = @_;
    return <<"CONF" . join '', map { <<"VHOST" } @{ $run->{names} };
AutocertCA \@pebble\@ cafile=\@cafile\@
AutocertAcceptTOS on
AutocertCache dir:\@cache\@
AutocertChallenges $run->{challenge}
CONF
<VirtualHost 127.0.0.1:\@https\@>
    AutocertDomain $_
</VirtualHost>
VHOST
}

# All that can be set for speed is. The key is of the type that this module makes by
# default, as RSA would cost mod_md dearly.
sub md_config
{
    my ($run) = @_;
    return <<"HEAD" . join '', map { <<"VHOST" } @{ $run->{names} };
Protocols http/1.1 acme-tls/1
MDCertificateAuthority \@pebble\@
MDCACertificateFile \@cafile\@
MDCertificateAgreement accepted
MDContactEmail admin\@example.test
MDStoreDir \@root\@/state/md
MDPortMap 80:\@http\@ 443:\@https\@
MDCAChallenges $run->{challenge}
MDPrivateKeys secp256r1
MDInitialDelay 0
MDRetryDelay 1s
MDCheckInterval 1s
MDStapling off
MDServerStatus off
MDMembers manual
HEAD
MDomain $_
<VirtualHost 127.0.0.1:\@https\@>
    ServerName $_
    SSLEngine on
</VirtualHost>
VHOST
}

# What is on the disk: cheap to ask, and it takes nothing from the server.
sub is_stored
{
    my ($run, $server, $name) = @_;
    return -s $server->cache_file($name) unless $run->{md};
    my $job = slurp($server->root . "/state/md/staging/$name/job.json") // return 0;
    return $job =~ /"finished":\s*true/;
}

# Wait for all names to be stored; the seconds it took, or undef.
sub wait_stored
{
    my ($run, $server, $begin) = @_;

    my @missing = @{ $run->{names} };
    my $news = Time::HiRes::time();
    for (;;) {
        my $before = @missing;
        @missing = grep { !is_stored($run, $server, $_) } @missing;
        my $now = Time::HiRes::time();
        return $now - $begin unless @missing;
        $news = $now if @missing < $before;
        if ($now - $begin > RUN_SECONDS || ($run->{md} && $now - $news > STUCK_SECONDS)) {
            report(scalar(@missing) . " names not obtained: $missing[0] ...");
            return;
        }
        nap(POLL_SECONDS);
    }
}

# All of them, chain and name verified; the seconds from the beginning, or undef.
sub wait_served
{
    my ($run, $server, $begin) = @_;

    my $text;
    my $all = @{ $run->{names} };
    while (Time::HiRes::time() - $begin < RUN_SECONDS) {
        (my $status, $text) = run_program(
            [bench_program('bench_handshakes'), $server->https, '-', '1.3', $all, $run->{root}]);
        return Time::HiRes::time() - $begin unless $status;
        nap(POLL_SECONDS);
    }
    report("not all served: $text");
    return;
}

sub start_ca
{
    my ($run, $name) = @_;
    my %env = (PEBBLE_WFE_NONCEREJECT => 5, PEBBLE_AUTHZREUSE => 0);
    # With its own default it waits up to five seconds before each validation.
    @env{qw(PEBBLE_VA_NOSLEEP PEBBLE_VA_SLEEPTIME)} = (undef, 5) if $run->{sleep};
    my $pebble = Autocert::Pebble->new(name => "ca-$name", env => \%env);
    $pebble->start;
    $run->{root} = $pebble->root;
    return $pebble;
}

my $serial = 0;

sub measure
{
    my ($run) = @_;

    my $name = 'run' . ++$serial;
    my $title = "$run->{what}, $run->{mpm}, $run->{challenge}, CA $run->{ca}";
    my $pebble = start_ca($run, $name);
    my $server = Autocert::Server->new(
        name => $name, mpm => $run->{mpm}, http => $pebble->http, https => $pebble->https,
        vars => $pebble->vars, loglevel => 'warn', module => $run->{md} ? 0 : 1,
        modules => $run->{md} ? ['md'] : [],
        config => ($run->{md} ? \&md_config : \&managed_config)->($run));
    # A child of mod_md's may crash when it is stopped at work; this is no test of that.
    $server->expect_crashes if $run->{md};
    my $begin = Time::HiRes::time();
    ok $server->start, "$title: httpd starts" or return;
    my $pid = $server->pid;
    $run->{stored} = wait_stored($run, $server, $begin);
    $run->{cpu} = cpu_seconds($pid, $server->children);
    $run->{restarts} = 0;
    if ($run->{md}) {
        ok $server->graceful, "$title: restarts gracefully";
        $run->{restarts}++;
    }
    $run->{served} = wait_served($run, $server, $begin);
    ok $run->{served}, "$title: all names are served";
    if (!$run->{md}) {
        my $starts = () = $server->log_since(0) =~ /resuming normal operations/g;
        is $starts, 1, "$title: without a restart";
        is $server->pid, $pid, "$title: by the same httpd";
    }
    $server->stop;
    $pebble->stop_all;
    return;
}

measure($_) for @runs;

my @rows = ['server', 'MPM', 'challenge', 'CA', 'names', 'all stored s', 'all served s',
    'ms a name', 'httpd CPU s', 'restarts'];
for my $run (@runs) {
    my $time = sub { defined $_[0] ? sprintf '%.1f', $_[0] : 'never' };
    push @rows, [$run->{what}, $run->{mpm}, $run->{challenge}, $run->{ca},
        scalar @{ $run->{names} }, $time->($run->{stored}), $time->($run->{served}),
        $run->{served} ? sprintf('%.0f', $run->{served} * 1000 / @{ $run->{names} }) : '-',
        defined $run->{cpu} ? sprintf('%.2f', $run->{cpu}) : '-', $run->{restarts} // '-'];
}
table('Empty cache, one virtual host for each name, from the start of httpd until all are served',
    @rows);

# Against our run with the same MPM, challenge and CA.
for my $md (grep { $_->{md} } @runs) {
    my ($ours) = grep { !$_->{md} && $_->{mpm} eq $md->{mpm} && $_->{ca} eq $md->{ca}
            && $_->{challenge} eq $md->{challenge} } @runs;
    my $what = "$md->{mpm}, $md->{challenge}, CA $md->{ca}";
    my $factor = ($md->{served} // RUN_SECONDS) / ($ours->{served} // RUN_SECONDS);
    report(sprintf '%s: mod_md takes %.1f times as long (goal: at least %d)', $what, $factor,
        $goal);
    cmp_ok $factor, '>=', $goal, "times as fast as mod_md: $what";
}

done_testing;
