# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Several CAs: the first that is well gets an order; a CA that is down, silent, or refuses a name is
# followed by the next, fast enough; a renewal waits a while for its CA; the first is used again when it is
# well; who issued what is remembered; what a test CA issued is replaced at once when it is configured no
# more, and nothing else is.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);
use IO::Socket::INET ();
use Time::HiRes ();

use Autocert::Client qw(handshake load_start load_stop);
use Autocert::Events qw(events count_events vhosts all_stored ledger change_ledger);
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until free_ports);

use constant {
    OBTAIN_SECONDS => 60,
    MINUTE         => 60,
    LIFETIME       => 30,       # of short certificates
    IDLE_SECONDS   => 1,
    NO_LISTENER    => '127.0.0.9',
};

# Two CAs that look for challenges at the same server.
sub two_cas
{
    my (%arg) = @_;
    my ($http, $https) = free_ports(2);
    return map { Autocert::Pebble->new(http => $http, https => $https, %arg) } 1 .. 2;
}

sub config
{
    my ($cas, @names) = @_;
    return "$cas\nAutocertAcceptTOS on\nAutocertCache dir:\@cache\@\n" . vhosts(@names);
}

sub line
{
    my ($pebble, $keys) = @_;
    return 'AutocertCA ' . $pebble->url . ' cafile=' . $pebble->cafile . ' ' . ($keys // '') . "\n";
}

sub new_server
{
    my ($pebble, $config) = @_;
    return Autocert::Server->new(http => $pebble->http, https => $pebble->https,
        loglevel => 'notice autocert:debug', config => $config);
}

# Which CA the log says a name came from, by the latest line.
sub issuer
{
    my ($server, $name, $mark) = @_;
    my $line = (grep { $_->{name} eq $name } events($server, 'AC0110', $mark))[-1] // return '';
    return $line->{text} =~ /^(?:obtained|renewed) from localhost:(\d+) / ? $1 : "? $line->{text}";
}

sub from
{
    my ($server, $name, $pebble, $what, $mark) = @_;
    my $port = $pebble->port;
    return ok wait_until(OBTAIN_SECONDS, sub { issuer($server, $name, $mark) eq $port }, "$name from $port"),
        $what;
}

# One that takes connections and never says a word; it is looked at in the end.
my ($silent, $heard) = two_cas();
my $hole = IO::Socket::INET->new(Listen => 64, LocalAddr => '127.0.0.1', LocalPort => $silent->port,
    Proto => 'tcp', ReuseAddr => 1) or die "listen: $@\n";
$heard->start;
my $patient = new_server($heard, config(line($silent) . line($heard), 'silent.example.test'));
my $begun = Time::HiRes::time();
ok $patient->start, 'httpd starts with a first CA that takes connections and never answers';

subtest 'the first CA is dead' => sub {
    my ($first, $second) = two_cas();
    my $name = 'orphan.example.test';
    $second->start;
    my $server = new_server($second, config(line($first) . line($second), $name));
    my $start = Time::HiRes::time();
    ok $server->start, 'httpd starts' or return;
    like $server->wait_for_log(qr/(AC0001: .*)/, 30), qr/; CA localhost:\d+, then localhost:\d+; /,
        'the log names both CAs, in their order';
    from($server, $name, $second, 'the second CA issues');
    cmp_ok Time::HiRes::time() - $start, '<', MINUTE, 'within a minute';
    ok handshake(port => $server->https, sni => $name, ca => $second->root)->{ok}, 'and it is served';
    my $told = (events($server, 'AC0130'))[0];
    like $told && $told->{text}, qr/^CA localhost:\d+: .*; names without a certificate go to the next CA,/,
        'the log says what happens to names meanwhile';
    is count_events($server, 'AC0120'), 0, 'it is no failure of the name';
    is ledger($server, $name)->{ca}, $second->url, 'the ledger knows who issued';
    $first->start;
    my $mark = $server->mark;
    my $more = 'later.example.test';
    $server->write_config(config(line($first) . line($second), $name, $more));
    ok $server->graceful, 'a graceful restart brings another name' or return;
    ok all_stored($server, OBTAIN_SECONDS, $more), 'which is obtained';
    my $last = 'last.example.test';
    ok wait_until(OBTAIN_SECONDS, sub { count_events($server, 'AC0135', $mark) }),
        'once the first CA is well it is noticed';
    $server->write_config(config(line($first) . line($second), $name, $more, $last));
    $mark = $server->mark;
    ok $server->graceful, 'one more name' or return;
    from($server, $last, $first, 'and it gets the next order again', $mark);
    is issuer($server, $name, $mark), '', 'what the second one issued stays as it is';
    ok $server->stop, 'httpd stops';
};

subtest 'a CA that refuses a name' => sub {
    my ($http, $https) = free_ports(2);
    my $picky = Autocert::Pebble->new(http => $http, https => $https,
        config => { domainBlocklist => ['refused.example.test'] })->start;
    my $second = Autocert::Pebble->new(http => $http, https => $https)->start;
    my @names = ('refused.example.test', 'welcome.example.test');
    my $server = new_server($second, config(line($picky) . line($second), @names));
    ok $server->start, 'httpd starts' or return;
    from($server, $names[0], $second, 'a name that the first refuses comes from the second at once');
    from($server, $names[1], $picky, 'others come from the first');
    like((events($server, 'AC0120'))[0]{text}, qr/rejectedIdentifier/, 'the log has the words of the first');
    is count_events($server, 'AC0130'), 0, 'it is no matter of the CA';
    is ledger($server, $names[0])->{ca}, $second->url, 'the ledger knows who issued which';
    is ledger($server, $names[1])->{ca}, $picky->url, 'and the other';
    ok $server->stop, 'httpd stops';
};

subtest 'a name that fails at one CA repeatedly' => sub {
    my ($first, $second) = two_cas();
    my $name = 'unlucky.example.test';
    $_->start for $first, $second;
    $first->dns_set('add-a', host => $name, addresses => [NO_LISTENER]);
    my $server = new_server($second, config(line($first) . line($second), $name));
    ok $server->start, 'httpd starts' or return;
    ok wait_until(OBTAIN_SECONDS, sub { count_events($server, 'AC0120') }), 'it fails at the first CA';
    is $second->orders, 0, 'once is not enough to leave it';
    $server->stop;
    change_ledger($server, $name, next => time - 1);
    ok $server->start, 'its next try has come' or return;
    from($server, $name, $second, 'the second failure is followed by the second CA');
    my $state = ledger($server, $name);
    is $state->{failures}, 0, 'and all is forgotten';
    ok $server->stop, 'httpd stops';
};

subtest 'renewals are patient, but not too long' => sub {
    my ($first, $second) = two_cas(lifetime => LIFETIME);
    my $name = 'short.example.test';
    $_->start for $first, $second;
    my $server = new_server($second, config(line($first) . line($second), $name));
    ok $server->start, 'httpd starts' or return;
    from($server, $name, $first, 'the first CA issues');
    my $load = load_start(port => $server->https, sni => $name, pause => 0.05);
    $first->stop;
    my $mark = $server->mark;
    from($server, $name, $second, 'it dies; the renewal comes from the second', $mark);
    my ($down) = events($server, 'AC0130', $mark);
    my ($renewed) = events($server, 'AC0110', $mark);
    my $waited = $renewed->{time} - $down->{time};
    cmp_ok $waited, '>', LIFETIME / 20 - 0.3, 'a twentieth of the lifetime it waited for the first';
    cmp_ok $waited, '<', LIFETIME / 4, 'and no longer';
    my $result = load_stop($load);
    is $result->{failed}, 0, "no handshake failed of $result->{ok}" or diag $result->{error};
    ok $server->stop, 'httpd stops';
};

subtest 'a list that changes' => sub {
    my ($first, $second) = two_cas();
    my @names = map { "stay$_.example.test" } 1, 2;
    $_->start for $first, $second;
    my $server = new_server($second, config(line($first), @names));
    ok $server->start, 'httpd starts with one CA' or return;
    ok all_stored($server, OBTAIN_SECONDS, @names), 'it issues' or return;
    my %before = map { $_ => handshake(port => $server->https, sni => $_)->{serial} } @names;
    $server->write_config(config(line($second), @names));
    my $mark = $server->mark;
    ok $server->restart, 'another CA stands in the configuration' or return;
    ok wait_until(30, sub { count_events($server, 'AC0001', $mark) }), 'all names were looked at';
    wait_until(IDLE_SECONDS, sub { $second->orders });
    is $second->orders, 0, 'nothing is ordered for that';
    is_deeply { map { $_ => handshake(port => $server->https, sni => $_)->{serial} } @names }, \%before,
        'the certificates of the old one stay in service';
    # As if their time had come.
    $server->stop;
    $server->write_config(config(line($second), @names) =~ s/^<Virt/AutocertRenewBefore 89d\n<Virt/mr);
    ok $server->start, 'RenewBefore 89d' or return;
    wait_until(IDLE_SECONDS, sub { $second->orders });
    is $second->orders, 0, 'a tenth of its life passes before any is renewed';

    # A test CA.
    $server->stop;
    $server->write_config(config(line($first, 'test=on') . line($second), @names, 'tried.example.test'));
    $mark = $server->mark;
    ok $server->start, 'a test CA is the first' or return;
    from($server, 'tried.example.test', $first, 'it issues', $mark);
    ok $server->stop, 'httpd stops';
    $mark = $server->mark;
    ok $server->start, 'and starts';
    ok wait_until(30, sub { count_events($server, 'AC0001', $mark) }), 'all names were looked at';
    wait_until(IDLE_SECONDS, sub { count_events($server, 'AC0110', $mark) });
    is count_events($server, 'AC0110', $mark), 0, 'as long as it is in the list its certificate stays';
    $server->write_config(config(line($second), @names, 'tried.example.test'));
    $mark = $server->mark;
    ok $server->restart, 'it is taken out of the list' or return;
    from($server, 'tried.example.test', $second, 'and what it issued is replaced at once', $mark);
    is scalar(grep { $_->{name} ne 'tried.example.test' } events($server, 'AC0110', $mark)), 0,
        'and nothing else';
    ok $server->stop, 'httpd stops';
};

from($patient, 'silent.example.test', $heard, 'the CA behind a silent one issues');
cmp_ok((events($patient, 'AC0110'))[0]{time} - $begun, '<', MINUTE, 'within a minute');
ok $patient->stop, 'httpd stops';
close $hole;

done_testing;
