# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# dns-persist-01: one standing record, set by hand. While it is missing, the log has it word for word, and the CA
# is not asked to look; once it is there, nothing has to be done any more. The newer Pebble only.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use Autocert::Client qw(handshake);
use Autocert::Events qw(events count_events all_stored ledger change_ledger);
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until free_ports);

use constant {
    OBTAIN_SECONDS => 60,
    ISSUER         => 'ca.issuer.test',
    RECORD         => '_validation-persist.persist.example.test.',
};

my $pebble = Autocert::Pebble->new(new => 1, config => { caaIdentities => [ISSUER] })->start;
my $server = Autocert::Server->with_ca($pebble,
    vars => { resolver => '127.0.0.1:' . $pebble->dns_port }, config => <<'CONF');
AutocertDNSResolver @resolver@
<VirtualHost 127.0.0.1:@https@>
    AutocertDomain persist.example.test *.persist.example.test
    AutocertChallenges dns-persist-01
</VirtualHost>
CONF
my %key = ('persist.example.test' => 'persist.example.test',
    '*.persist.example.test' => 'persist.example.test+wildcard');
ok $server->start, 'httpd starts' or exit 1;
my %said;
ok wait_until(OBTAIN_SECONDS, sub {
    %said = map { $_->{name} // '' => $_->{text} } events($server, 'AC0244');
    return keys %said == 2;
}, 'the records in the log'), 'the log has a record to set for each' or diag join ' ', %said;
my $account = $server->wait_for_log(qr{AC0207: .* the account (https://\S+?)[,;]?\s}) // '';
my %record = map { $_ => 'IN TXT "' . ISSUER . "; accounturi=$account"
        . (/^\*/ ? '; policy=wildcard' : '') . '"' } keys %key;
for my $name (sort keys %key) {
    like $said{$name}, qr/\Q@{[RECORD]} $record{$name}\E/, "$name: in the words of a zone file";
    my $failed = wait_until(OBTAIN_SECONDS, sub {
        (grep { ($_->{name} // '') eq $name } events($server, 'AC0120'))[0];
    });
    like $failed && $failed->{text}, qr/^not obtained from localhost:\d+: .*next try /,
        "$name: is not obtained, and waits";
}
is $pebble->orders, 2, 'an order each';
unlike $pebble->log, qr/Attempting to validate|order .* invalid|has been set to invalid/i,
    'the CA was not asked to look: nothing failed there';

# As if the time of the next try had come.
sub try_again
{
    $server->stop;
    change_ledger($server, $_, next => time - 1) for grep { ledger($server, $_) } values %key;
    return $server->start;
}

my ($value) = $record{'*.persist.example.test'} =~ /"(.*)"/;
$pebble->dns_set('set-txt', host => RECORD, value => "$value; x=unknown");
ok try_again(), 'the record is set' or exit 1;
ok all_stored($server, OBTAIN_SECONDS, values %key), 'both are obtained' or exit 1;
my %text;
wait_until(OBTAIN_SECONDS, sub {
    %text = map { $_->{name} // '' => $_->{text} } events($server, 'AC0110');
    return keys %text == 2;
});
like $text{$_} // '', qr/^obtained from localhost:\d+ by dns-persist-01 in /, "$_: the log says how" for sort keys %key;
is $pebble->orders, 2, 'by the orders that were there';
my %visit = (port => $server->https, ca => $pebble->root);
is_deeply handshake(%visit, sni => 'persist.example.test')->{names}, ['persist.example.test'], 'the base is served';
is_deeply handshake(%visit, sni => 'a.persist.example.test')->{names}, ['*.persist.example.test'], 'and what is below';

$server->stop;
unlink map { $server->cache_file($_) } values %key;
my $mark = $server->mark;
ok $server->start, 'httpd starts without certificates' or exit 1;
ok all_stored($server, OBTAIN_SECONDS, values %key), 'they are obtained again by the same record';
is count_events($server, $_, $mark), 0, "no $_" for qw(AC0244 AC0120);

# Other names from here on: Pebble uses a valid authorization in a hundred again although told not to.
sub rename_to
{
    my ($label) = @_;
    my $base = "$label.example.test";
    $server->stop;
    $server->write_config($server->{config} =~ s/\w+(?=\.example\.test)/$label/gr);
    my $record = "_validation-persist.$base.";
    $pebble->dns_set('set-txt', host => $record, value => ISSUER . "; accounturi=$account");
    $pebble->dns_set('set-txt', host => $record, value => ISSUER . "; accounturi=${account}0; policy=wildcard");
    $mark = $server->mark;
    return $base;
}

# The record of another account, or without the policy, is as good as none.
my $base = rename_to('late');
my $orders = $pebble->orders;
ok $server->start, 'httpd starts with a record without policy' or exit 1;
ok all_stored($server, OBTAIN_SECONDS, $base), 'the base is obtained';
ok wait_until(OBTAIN_SECONDS, sub { count_events($server, 'AC0120', $mark) }), 'the wildcard is not';
is_deeply [map { $_->{name} } events($server, 'AC0244', $mark)], ["*.$base"],
    'the log has what it needs';
is $pebble->orders, $orders + 2, 'an order each';

# Nobody can be asked for the record: the CA finds out.
$server->{vars}{resolver} = '127.0.0.1:' . free_ports(1);
$base = rename_to('last');
ok $server->start, 'httpd starts without a DNS server' or exit 1;
ok all_stored($server, OBTAIN_SECONDS, $base), 'what the CA finds is obtained all the same';
is_deeply [map { $_->{name} } grep { $_->{name} eq $base } events($server, 'AC0245', $mark)], [$base],
    'and the log says that the record was not seen';
ok $server->stop, 'httpd stops';

done_testing;
