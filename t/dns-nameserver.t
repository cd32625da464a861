# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# dns-01 with a real DNS server: the program for dynamic update that comes with the module sets the records, they
# are looked for at the servers of their zone, the CA looks there too, and nothing is left behind. A name and its
# wildcard together, their renewal, a record that a CNAME leads to another zone, a key that is not the right one.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use Autocert::Client qw(handshake https_get);
use Autocert::Events qw(events count_events all_stored);
use Autocert::NameServer;
use Autocert::Namespace;
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until scratch spit);

use constant {
    OBTAIN_SECONDS => 60,
    LIFETIME       => 40,      # seconds, of the certificates that are renewed
    SHARE          => 90,      # percent, left when they are
    BASE           => 'wild.example.test',
    WILDCARD       => '*.wild.example.test',
};

my $refused = Autocert::Namespace::enter();
if (defined $refused) {
    die "namespaces are refused ($refused), and CI is to have them\n" if ($ENV{CI} // '') eq 'true';
    plan(skip_all => "namespaces are refused ($refused)");
}

my $program = scratch() . '/contrib/dns/nsupdate';
ok -x $program, 'there is a program for dynamic update' or exit 1;
my $names = Autocert::NameServer->new(zones => ['example.test', 'other.test'])->start;
my $pebble = Autocert::Pebble->new(dns => $names, lifetime => LIFETIME)->start;
my $head = <<'CONF';
AutocertDNSResolver 127.0.0.1
AutocertChallenges dns-01
AutocertRenewBefore 1%
CONF
my $command = 'AutocertDNSCommand @program@ server=127.0.0.1 secret=@key@ wait=20s';

sub new_server
{
    my ($config, %vars) = @_;
    return Autocert::Server->with_ca($pebble, loglevel => 'notice autocert:debug',
        vars => { program => $program, key => $names->key_file, %vars }, config => $head . $config);
}

# Names by whom there is an event.
sub names_of
{
    my ($server, $id, $mark) = @_;
    return [sort map { $_->{name} } events($server, $id, $mark)];
}

sub clean
{
    my ($what, @records) = @_;
    @records = ('_acme-challenge.' . BASE) unless @records;
    return ok wait_until(20, sub { !grep { $names->txt($_) } @records }), "$what: no record is left";
}

subtest 'a name and its wildcard' => sub {
    my $vhost = sub { return <<"CONF" };
<VirtualHost 127.0.0.1:\@https\@>
    AutocertDomain @{[BASE]} @{[WILDCARD]}
    AutocertRenewBefore $_[0]%
    $command
</VirtualHost>
CONF
    # Somebody else's value at the same record stays.
    $names->update('add _acme-challenge.' . BASE . '. 60 TXT "of somebody else"');
    my $server = new_server($vhost->(1));
    ok $server->start, 'httpd starts' or return;
    ok all_stored($server, OBTAIN_SECONDS, BASE, BASE . '+wildcard'), 'both are obtained' or return;
    my %visit = (port => $server->https, ca => $pebble->root);
    for my $sub (qw(one two three)) {
        my $seen = https_get(%visit, sni => "$sub." . BASE);
        is $seen->{status}, 200, "$sub: is served" or diag $seen->{error};
        is_deeply $seen->{names}, [WILDCARD], "$sub: by the wildcard's certificate";
    }
    is_deeply handshake(%visit, sni => BASE)->{names}, [BASE], 'the name has its own';
    ok wait_until(20, sub { count_events($server, 'AC0250') == 4 }), 'the program ran twice for each';
    my @both = sort { $a cmp $b } BASE, WILDCARD;
    is_deeply names_of($server, 'AC0253'), \@both, 'each record was seen at the servers of the zone';
    is count_events($server, $_), 0, "no $_" for qw(AC0251 AC0252 AC0254 AC0113 AC0120);
    my $log = $server->log_since(0);
    ok index($log, $names->secret) < 0, 'nothing of the key is in the log';
    is_deeply [$names->txt('_acme-challenge.' . BASE)], ['of somebody else'], 'only that of somebody else is left';
    $names->update('delete _acme-challenge.' . BASE . '. TXT');

    my $serial = handshake(%visit, sni => 'one.' . BASE)->{serial};
    $server->write_config($server->{config} =~ s/AutocertRenewBefore 1%\n    Auto/"AutocertRenewBefore @{[SHARE]}%\n    Auto"/er);
    my $mark = $server->mark;
    ok $server->graceful, 'renewal is early from now on' or return;
    ok wait_until(OBTAIN_SECONDS, sub {
        my $seen = handshake(%visit, sni => 'one.' . BASE);
        return $seen->{ok} && $seen->{serial} ne $serial;
    }), 'the wildcard is renewed';
    ok $server->wait_for_log(qr/AC0110: autocert: \Q@{[WILDCARD]}\E: renewed from \S+(?: by dns-01)? in /, 20, $mark),
        'by dns-01, or by what Pebble uses again';
    is count_events($server, 'AC0120'), 0, 'nothing failed';
    # One that is stopped while it looks for a record leaves it to the next one.
    $server->write_config($server->{config} =~ s/AutocertRenewBefore \d+%\n    Auto/"AutocertRenewBefore 1%\n    Auto"/er);
    ok $server->graceful, 'renewal is late again' or return;
    clean('after it');
    ok $server->stop, 'httpd stops';
};

subtest 'a record in another zone' => sub {
    # The program sets the record where the CNAME leads to.
    my $wrapper = spit(Autocert::Server::work_dir() . '/other-zone', <<"SH", 0755);
#!/bin/sh
fqdn=\${3%.example.test.}.other.test.
exec $program "\$1" "\$2" "\$fqdn" "\$4"
SH
    $names->update('add _acme-challenge.alias.example.test. 60 CNAME _acme-challenge.alias.other.test.');
    my $server = new_server(<<'CONF', program => $wrapper);
<VirtualHost 127.0.0.1:@https@>
    AutocertDomain *.alias.example.test
    AutocertDNSCommand @program@ server=127.0.0.1 secret=@key@ wait=20s
</VirtualHost>
CONF
    ok $server->start, 'httpd starts' or return;
    ok all_stored($server, OBTAIN_SECONDS, 'alias.example.test+wildcard'), 'it is obtained' or return;
    is_deeply names_of($server, 'AC0253'), ['*.alias.example.test'], 'the record was seen at the end of the CNAME';
    is_deeply handshake(port => $server->https, ca => $pebble->root, sni => 'x.alias.example.test')->{names},
        ['*.alias.example.test'], 'and is served';
    clean('after it', '_acme-challenge.alias.other.test', '_acme-challenge.alias.example.test');
    ok $server->stop, 'httpd stops';
};

subtest 'a wrong key' => sub {
    my $key = spit(Autocert::Server::work_dir() . '/wrong.key', $names->key_text('bm90IHRoZSByaWdodCBvbmU='), 0600);
    my $orders = $pebble->orders;
    my $mark = $pebble->mark;
    my $server = new_server(<<"CONF", key => $key);
<VirtualHost 127.0.0.1:\@https\@>
    AutocertDomain denied.example.test
    $command
</VirtualHost>
CONF
    ok $server->start, 'httpd starts' or return;
    my $failed = wait_until(OBTAIN_SECONDS, sub { (events($server, 'AC0120'))[0] });
    like $failed && $failed->{text}, qr/^not obtained from localhost:\d+: .*nsupdate.*BADSIG/,
        'the log has what the program says';
    unlike $pebble->log($mark), qr/Attempting to validate|Starting \d+ validations/, 'and the CA was not asked to look';
    is $pebble->orders, $orders + 1, 'by one order';
    $server->write_config($server->{config} =~ s/wait=20s/wait=10s port=53/r);
    $server->{vars}{key} = $names->key_file;
    $server->write_config;
    ok $server->restart, 'it is corrected' or return;
    ok all_stored($server, OBTAIN_SECONDS, 'denied.example.test'), 'and the name is obtained';
    is $pebble->orders, $orders + 1, 'by the order that was there';
    clean('after it', '_acme-challenge.denied.example.test');
    ok $server->stop, 'httpd stops';
};

done_testing;
