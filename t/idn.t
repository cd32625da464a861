# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Names with other letters than ASCII in AutocertDomain: A-labels in orders, certificates and files, both forms in
# the log, and one name however it is written.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use Autocert::Client qw(handshake https_get http_get);
use Autocert::Configtest qw(vhost);
use Autocert::DnsCommand;
use Autocert::Events qw(all_stored);
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until free_ports slurp);

use constant {
    OBTAIN_SECONDS => 60,
    NO_NAME        => 112,     # the alert unrecognized_name
};

# In the bytes of UTF-8; httpd's log shows those as \xNN.
my %name = (
    "b\xc3\xbccher.example.test" => ['xn--bcher-kva.example.test', 'b\xc3\xbccher.example.test'],
    "\xe4\xbe\x8b\xe3\x81\x88.example.test" => ['xn--r8jz45g.example.test',
        '\xe4\xbe\x8b\xe3\x81\x88.example.test'],
    # With a capital letter, and one that older rules took for "ss".
    "STRA\xc3\x9fE.example.test" => ['xn--strae-oqa.example.test', 'stra\xc3\x9fe.example.test'],
);
my ($wildcard, $shown) = ("*.b\xc3\xbccher.example.test", '*.b\xc3\xbccher.example.test');
my @names = sort keys %name;
my @labels = map { $name{$_}[0] } @names;

my $pebble = Autocert::Pebble->new->start;
my $command = Autocert::DnsCommand->new(dns => $pebble->{dns});
my $server = Autocert::Server->with_ca($pebble, ca_keys => 'test=off', vars => { command => $command->program },
    config => <<"CONF");
AutocertRedirect temporary
<VirtualHost 127.0.0.1:\@https\@>
    AutocertDomain @names $labels[0] $wildcard
    AutocertDNSCommand \@command\@ wait=0
</VirtualHost>
CONF
my ($status, $output) = $server->configtest;
is $status, 0, 'the configuration is good' or diag $output;
ok $server->start, 'httpd starts' or exit 1;
ok all_stored($server, OBTAIN_SECONDS, @labels, 'xn--bcher-kva.example.test+wildcard'),
    'all are obtained, with A-labels as names of files';
my %by_label = ('*.xn--bcher-kva.example.test' => $shown, map { @{ $name{$_} } } @names);
for my $label (sort keys %by_label) {
    ok $server->wait_for_log(qr/AC0110: autocert: \Q$label ($by_label{$label}): obtained from \E/, OBTAIN_SECONDS),
        "$label: the log has both forms";
}
is $pebble->orders, @names + 1, 'one order each, however often it is written';
unlike $pebble->log, qr/[^\x00-\x7f]/, 'the CA saw ASCII only';
is_deeply [map { @{ $_->{argv} }[-2] } $command->runs('present')], ['_acme-challenge.xn--bcher-kva.example.test.'],
    'the DNS command too';

my %visit = (port => $server->https, ca => $pebble->root);
for my $label (@labels) {
    my $seen = https_get(%visit, sni => $label);
    is $seen->{status}, 200, "$label is served" or diag $seen->{error};
    is_deeply $seen->{names}, [$label], "$label: by its certificate";
    $seen = http_get(port => $server->http, host => $label);
    is $seen->{headers}{location}, "https://$label/", "$label: and redirected to";
}
my $seen = handshake(%visit, sni => 'xn--strae-oqa.xn--bcher-kva.example.test');
is_deeply $seen->{names}, ['*.xn--bcher-kva.example.test'], 'a name below the wildcard' or diag $seen->{error};
$seen = handshake(%visit, sni => 'strasse.example.test');
is $seen->{alert}, NO_NAME, 'what is another name today is no name of ours';
ok $server->stop, 'httpd stops';

subtest 'what -t says' => sub {
    my $judge = Autocert::Configtest->new;
    $judge->accepts('a name', vhost("AutocertDomain b\xc3\xbccher.example.org"));
    $judge->accepts('the same name in two vhosts', vhost("AutocertDomain b\xc3\xbccher.example.org")
        . vhost('AutocertDomain xn--bcher-kva.example.org'));
    $judge->fails_check('with other settings', vhost("AutocertDomain b\xc3\xbccher.example.org")
        . vhost('>>AutocertDomain xn--bcher-kva.example.org', 'AutocertChallenges http-01'),
        'it stands in two vhosts with different AutocertChallenges, AutocertDNSCommand, AutocertKeyTypes, '
        . 'AutocertCSRExtension, AutocertRenewBefore or AutocertRetire: write the same in both, or name it in one '
        . 'only', name => 'xn--bcher-kva.example.org');
    my $example = 'write a full host name, for example "www.example.org"';
    for my $case (["\xff.example.org", '\xff.example.org', 'is not UTF-8'],
        ["a\xe2\x80\x8db.example.org", 'a\xe2\x80\x8db.example.org', '.*'],
        ["*b\xc3\xbccher.example.org", '*b\xc3\xbccher.example.org', 'has a "\*" that is not the whole first label']) {
        my ($name, $written, $why) = @$case;
        $judge->refuses("AutocertDomain $written", vhost(">>AutocertDomain $name"),
            qr/AutocertDomain: "\Q$written\E" $why: \Q$example\E/);
    }
};

done_testing;
