# Licensed under the Apache License, Version 2.0; see LICENSE.
# mpm: all
#
# The way from certificates of another origin (certbot) to managed ones: AutocertDomain is
# added while the CA is down, the CA comes, its certificate takes over, the SSLCertificate* lines
# go. Clients verify all the time, and no handshake fails at any point.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use Autocert::Client qw(handshake load_start load_stop make_ca issue_pair);
use Autocert::Pebble;
use Autocert::Relay;
use Autocert::Server;
use Autocert::Util qw(wait_until slurp spit);

use constant {
    CLIENTS        => 3,
    OBTAIN_SECONDS => 60,
};

my @names = ('www.example.test', 'example.test');
# Its root is made when it starts, so it runs from the beginning; what is down at first is the
# way to it.
my $pebble = Autocert::Pebble->new->start;
my $relay = Autocert::Relay->new(to => $pebble->port);
my $ca = make_ca('the CA that was there before');
my $pair = issue_pair($ca, \@names);

my $static = <<'CONF';
    SSLEngine on
    SSLCertificateFile @root@/conf/old.pem
    SSLCertificateKeyFile @root@/conf/old.key
CONF
sub config
{
    my (%has) = @_;
    return ($has{managed} ? <<'CONF' : '')
AutocertCA @relay@ cafile=@cafile@
AutocertAcceptTOS on
AutocertCache dir:@cache@
CONF
        . "<VirtualHost 127.0.0.1:\@https\@>\n    ServerName $names[0]\n    ServerAlias $names[1]\n"
        . ($has{static} ? $static : '') . ($has{managed} ? "    AutocertDomain\n" : '')
        . "</VirtualHost>\n";
}

my $server = Autocert::Server->new(http => $pebble->http, https => $pebble->https,
    loglevel => 'notice autocert:debug',
    vars => { %{ $pebble->vars }, relay => $relay->url }, config => config(static => 1));
spit($server->root . '/conf/old.pem', $pair->{pem} . $pair->{chain_pem});
spit($server->root . '/conf/old.key', $pair->{key_pem}, 0600);
my $trust = spit($server->root . '/conf/trust.pem',
    $ca->{pem} . slurp($pebble->root));

ok $server->start, 'httpd starts with its old certificate' or exit 1;
my %visit = (port => $server->https, ca => $trust);

sub origin
{
    my ($name) = @_;
    my $seen = handshake(%visit, sni => $name);
    return $seen->{error} unless $seen->{ok};
    return $seen->{issuer_cn} eq 'the CA that was there before' ? 'old' : 'managed';
}

is origin($_), 'old', "$_ is served with it" for @names;
my @loads = map { load_start(%visit, sni => [@names], path => '/', pause => 0.01) } 1 .. CLIENTS;
ok wait_until(30, sub { length $server->access_log > 2000 }), 'visitors come';

$server->write_config(config(static => 1, managed => 1));
my ($status, $output) = $server->configtest;
is $status, 0, 'AutocertDomain may be added' or diag $output;
my $mark = $server->mark;
ok $server->graceful, 'a graceful restart with it';
ok $server->wait_for_log(qr/AC0130: /, 30, $mark), 'says that the CA is down';
is origin($_), 'old', "$_ is served with the old certificate on" for @names;
is $pebble->orders, 0, 'as there is no other';

$relay->start;
for my $name (@names) {
    ok wait_until(OBTAIN_SECONDS, sub { origin($name) eq 'managed' }),
        "once the CA is there, the managed certificate of $name takes over";
}
my @resumed = $server->log_since($mark) =~ /resuming normal operations/g;
is scalar(@resumed), 1,
    'without a restart';

$server->write_config(config(managed => 1));
($status, $output) = $server->configtest;
is $status, 0, 'the SSLCertificate lines may be removed' or diag $output;
ok $server->graceful, 'a graceful restart without them';
my $size = length $server->access_log;
ok wait_until(30, sub { length $server->access_log > $size + 4000 }), 'visitors come on';
is origin($_), 'managed', "$_ has the managed certificate" for @names;

my ($good, @failed) = (0);
for my $load (@loads) {
    my $result = load_stop($load);
    $good += $result->{ok};
    push @failed, "$result->{failed}: $result->{error}" if $result->{failed};
}
is "@failed", '', 'no visit failed at any point';
cmp_ok $good, '>', 50, "of many ($good)";
is $pebble->orders, 2, 'one order for each name';

done_testing;
