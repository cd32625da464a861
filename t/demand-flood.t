# Licensed under the Apache License, Version 2.0; see LICENSE.
# seconds: 300
#
# A stranger who sends a flood of random names: no order, no file is looked for, no memory grows, one
# line of log a second, and the sites that are there are served as before.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use Autocert::Client qw(handshake handshake_all make_ca issue_pair cache_value);
use Autocert::Endpoint;
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until spit slurp scratch spawn reap_within free_ports);

use constant {
    GOOD         => 50,
    FLOOD        => 5000,    # make bench sends 20,000
    BATCHES      => 4,
    CLIENTS      => 4,
    GROWTH_KB    => 4096,    # of a child: what threads and allocators take anyhow
    NO_NAME      => 112,
    LIVE_SECONDS => 30,
};

my $ca = make_ca('a CA by hand');
my $hand = spit(scratch() . "/demand-flood.$$", $ca->{pem});
my $pebble = Autocert::Pebble->new;
$pebble->start;
my @good = map { "good$_.flood.test" } 1 .. GOOD;
my $file = spit(scratch() . "/flood-names.$$", join '', map { "$_\n" } @good, '*.customers.test');
my $server = Autocert::Server->with_ca($pebble, wait => 0, vars => { file => $file }, start_servers => 1,
    server_limit => 1, threads => 20, loglevel => 'warn autocert:info', config => <<'CONF');
<VirtualHost 127.0.0.1:@https@>
    AutocertHostPolicy file @file@
    AutocertHostPolicy match shop[0-9]{1,4}\.flood\.test
</VirtualHost>
CONF
$server->cache_put($_, cache_value(issue_pair($ca, [$_]))) for @good;
ok $server->start, 'httpd starts' or exit 1;
my %visit = (port => $server->https, ca => $hand);
ok wait_until(LIVE_SECONDS, sub { $server->log_since(0) =~ /AC0001/ }), 'the elected child knows the cache';
is scalar(grep { handshake(%visit, sni => $_)->{ok} } @good), GOOD, 'all good names are served';

# All file names that a process and its threads pass to the kernel.
sub watch_files
{
    my ($pid) = @_;
    my $output = scratch() . "/flood-strace.$$";
    my $log = "$output.log";
    my $strace = spawn(['strace', '-f', '-qq', '-e', 'trace=%file', '-o', $output, '-p', $pid], output => $log);
    wait_until(LIVE_SECONDS, sub { (slurp("/proc/$pid/status") // '') =~ /^TracerPid:\s*[1-9]/m })
        or die 'strace cannot watch the child: ' . (slurp($log) // '') . "\n";
    return [$strace, $output];
}

sub watched
{
    my ($watch) = @_;
    # What the child does by itself every two seconds shows that files are seen at all.
    wait_until(LIVE_SECONDS, sub { (slurp($watch->[1]) // '') =~ /flood-names/ })
        or die "strace sees nothing\n";
    kill 'TERM', $watch->[0];
    reap_within($watch->[0], 10);
    return slurp($watch->[1]) // '';
}

sub resident
{
    my ($pid) = @_;
    my ($kb) = (slurp("/proc/$pid/status") // '') =~ /^VmRSS:\s*(\d+)/m;
    return $kb;
}

sub random_names
{
    my ($count, $zone) = @_;
    my @letters = ('a' .. 'z', 0 .. 9);
    return map { join('', map { $letters[rand @letters] } 1 .. 12) . ".$zone" } 1 .. $count;
}

my ($child) = $server->children;
# Memory that every thread takes once is not growth.
handshake_all(port => $server->https, names => [random_names(1000, 'evil.test')], clients => CLIENTS);
my $before = resident($child);
my $mark = $server->mark;
my $load = Autocert::Client::load_start(%visit, sni => \@good, pause => 0.01);
my ($alerts, @other) = (0);
for (1 .. BATCHES) {
    my $seen = handshake_all(port => $server->https, clients => CLIENTS,
        names => [random_names(FLOOD / BATCHES, 'evil.test')]);
    $alerts += grep { ($_->{alert} // 0) == NO_NAME } @$seen;
    push @other, grep { ($_->{alert} // 0) != NO_NAME } @$seen;
}
my $result = Autocert::Client::load_stop($load);
is $alerts, FLOOD, 'each of them gets unrecognized_name' or diag $other[0]{error};
is $result->{failed}, 0, 'good names are served meanwhile' or diag $result->{error};
cmp_ok $result->{ok}, '>', GOOD, 'all the time';
is $pebble->orders, 0, 'no order is placed';
# With sanitizers freed memory is kept for a while.
cmp_ok resident($child) - $before, '<', GROWTH_KB, 'the child does not grow' unless $ENV{AUTOCERT_ASAN};
my @lines = grep { /autocert:/ } split /\n/, $server->log_since($mark);
is_deeply \@lines, [], 'and there is nothing about it in the log';

my $watch = watch_files($child);
my $seen = handshake_all(port => $server->https, clients => CLIENTS, names => [random_names(500, 'evil.test')]);
my $text = watched($watch);
is scalar(grep { ($_->{alert} // 0) == NO_NAME } @$seen), 500, 'under strace, too: unrecognized_name';
unlike $text, qr/evil\.test/, 'no file is looked for, opened or made for such a name';

# X-16: the same with acme-tls/1.
$watch = watch_files($child);
$seen = handshake_all(port => $server->https, clients => CLIENTS, names => [random_names(1000, 'evil.test')],
    alpn => ['acme-tls/1']);
$text = watched($watch);
is scalar(grep { ($_->{alert} // 0) == NO_NAME } @$seen), 1000, 'X-16 with acme-tls/1: unrecognized_name'
    or diag $seen->[0]{error};
unlike $text, qr/evil\.test/, 'X-16 and no file';

# Names that a policy allows and that have no certificate cost no look into the cache either.
$pebble->stop;
$watch = watch_files($child);
my @allowed = random_names(200, 'customers.test');
$seen = handshake_all(port => $server->https, clients => CLIENTS, names => \@allowed);
$text = watched($watch);
is scalar(grep { $_->{ok} } @$seen), 0, 'allowed names without a certificate, and the CA is down';
# The elected child is this one: its dispatcher looks, within its limits. Handshakes do not.
cmp_ok scalar(() = $text =~ /customers\.test/g), '<=', 8 * @allowed, 'are looked for by the dispatcher only';
ok $server->stop, 'httpd stops';

subtest 'with an endpoint' => sub {
    my $endpoint = Autocert::Endpoint->new(yes => 'never', headers => { 'Cache-Control' => 'max-age=600' });
    my $other = Autocert::Server->new(vars => { dead => scalar free_ports(1), url => $endpoint->url },
        test_modules => ['peer'], loglevel => 'warn autocert:info', threads => 20, config => <<'CONF');
AutocertCA https://127.0.0.1:@dead@/dir
AutocertAcceptTOS on
AutocertCache dir:@cache@
AutocertClientLimit 20 1h
<VirtualHost 127.0.0.1:@https@>
    AutocertHostPolicy ask @url@
</VirtualHost>
CONF
    ok $other->start, 'httpd starts' or return;
    my $first = $other->mark;
    my $begin = time;
    my $all = handshake_all(port => $other->https, clients => CLIENTS, from => ['127.130.1.1'],
        names => [random_names(2000, 'evil.test')]);
    is scalar(grep { $_->{ok} } @$all), 0, 'nobody is served';
    # No handshake waits here, so the questions come after it.
    wait_until(LIVE_SECONDS, sub { $endpoint->domains >= 20 });
    is scalar($endpoint->domains), 20, 'one network causes so many questions, and no more';
    my $noted = () = $other->log_since($first) =~ /AC0(?:340|150)/g;
    cmp_ok $noted, '<=', 2 * (time - $begin + 2), 'each kind of line at most once a second';
    ok $other->stop, 'httpd stops';
};

done_testing;
