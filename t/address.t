# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# AutocertDomain with addresses of both kinds: obtained by either challenge at either Pebble, and served to clients
# that reached the address and name no host. What -t says to addresses of which no public CA knows.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use IO::Socket::IP ();

use Autocert::Client qw(handshake https_get http_get);
use Autocert::Configtest qw(vhost);
use Autocert::Events qw(events count_events all_stored);
use Autocert::Namespace;
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until);

use constant {
    OBTAIN_SECONDS => 60,
    DAY            => 86_400,
    SHORT_DAYS     => 6,
    NO_NAME        => 112,     # the alert unrecognized_name
};

# Where the loopback has no ::1, one of our own has.
my $ipv6 = IO::Socket::IP->new(Listen => 1, LocalHost => '::1', LocalPort => 0, Proto => 'tcp') ? 1 : 0;
if (!$ipv6) {
    my $refused = Autocert::Namespace::enter();
    $ipv6 = !defined $refused;
    if (!$ipv6) {
        fail "no ::1, and namespaces are refused ($refused), but CI is to have them" if ($ENV{CI} // '') eq 'true';
        diag "IPv6 is not tested, as there is no ::1, and namespaces are refused: $refused";
    }
}
my %file = ('127.0.0.1' => '127.0.0.1', $ipv6 ? ('::1' => 'ip6---1') : ());
my @addresses = sort keys %file;
my @written = map { /:/ ? "[$_]" : $_ } @addresses;

sub listen_lines
{
    return $ipv6 ? "Listen [::1]:\@http\@\nListen [::1]:\@https\@\n" : '';
}

sub check_served
{
    my ($server, $root) = @_;

    for my $address (@addresses) {
        my %visit = (address => $address, port => $server->https, ca => $root);
        for my $tls ('1.2', '1.3') {
            my $seen = https_get(%visit, verify_name => $address, tls => $tls);
            is $seen->{status}, 200, "$address: served to a client without SNI, TLS $tls" or diag $seen->{error};
            is_deeply $seen->{ips}, [$address], "$address: its certificate";
            is_deeply $seen->{names}, [], "$address: for no name";
        }
        my $seen = handshake(%visit, sni => 'named.example.test');
        is_deeply $seen->{names}, ['named.example.test'], "$address: a client with a name gets that of the name"
            or diag $seen->{error};
        # Not what RFC 6066 allows, but seen.
        $seen = handshake(address => $address, port => $server->https, sni => '198.51.100.7');
        ok !$seen->{ok}, "$address: an address as a name is none";
    }
    # 127.0.0.2 is another address, and has no certificate.
    my $seen = handshake(address => '127.0.0.2', port => $server->https);
    isnt join(' ', @{ $seen->{ips} // [] }), '127.0.0.1', 'another address does not get it';
    return;
}

for my $new (0, 1) {
    for my $type ('http-01', 'tls-alpn-01') {
        subtest(($new ? 'newer' : 'packaged') . " Pebble, $type" => sub {
            my $pebble = Autocert::Pebble->new(new => $new)->start;
            my $server = Autocert::Server->with_ca($pebble, config => listen_lines() . <<"CONF");
Listen 127.0.0.2:\@https\@
<VirtualHost *:\@https\@>
    AutocertDomain named.example.test @written
    AutocertChallenges $type
    AutocertDefaultHost none
</VirtualHost>
CONF
            ok $server->start, 'httpd starts' or return;
            ok all_stored($server, OBTAIN_SECONDS, 'named.example.test', values %file),
                'all are obtained, each with its file' or return;
            my %text;
            wait_until(OBTAIN_SECONDS, sub {
                %text = map { $_->{name} // '' => $_->{text} } events($server, 'AC0110');
                return keys %text == @addresses + 1;
            });
            like $text{$_}, qr/^obtained from localhost:\d+ by \Q$type\E in /, "$_: the log says how" for @addresses;
            is count_events($server, $_), 0, "no $_" for qw(AC0120 AC0240 AC0241);
            check_served($server, $pebble->root);
            ok $server->stop, 'httpd stops';
            $pebble->stop_all;
        });
    }
}

# One listener for both kinds, which sees IPv4 as a part of IPv6; redirects; a kind that cannot prove an address.
subtest 'a listener for all addresses' => sub {
    my $pebble = Autocert::Pebble->new->start;
    my $server = Autocert::Server->with_ca($pebble, listen => 0, ca_keys => 'test=off', config => <<"CONF");
Listen \@http\@
Listen \@https\@
AutocertRedirect temporary
AutocertDNSCommand /bin/true wait=0
<VirtualHost *:\@https\@>
    AutocertDomain @written named.example.test
    AutocertChallenges dns-01 http-01
    AutocertDefaultHost none
</VirtualHost>
CONF
    ok $server->start, 'httpd starts' or return;
    ok all_stored($server, OBTAIN_SECONDS, values %file), 'addresses are obtained' or return;
    is scalar(grep { $_->{name} ne 'named.example.test' } events($server, 'AC0113')), 0,
        'what cannot prove them was not tried';
    ok all_stored($server, OBTAIN_SECONDS, 'named.example.test'), 'a name too, by the second kind';
    check_served($server, $pebble->root);
    for my $n (0 .. $#addresses) {
        my $seen = http_get(port => $server->http, host => "$written[$n]:" . $server->http, path => '/x');
        is $seen->{status}, 302, "$addresses[$n]: a plain request is redirected";
        is $seen->{headers}{location}, "https://$written[$n]/x", "$addresses[$n]: to https";
    }
    is http_get(port => $server->http, host => '127.0.0.2')->{status}, 200, 'one for another address is not';
    ok $server->stop, 'httpd stops';
    $pebble->stop_all;
};

# Pebble takes one at random for an order that names none.
subtest 'the profile for addresses' => sub {
    my %profiles = map { ("other$_" => { description => 'another', validityPeriod => 90 * DAY }) } 1 .. 9;
    my $pebble = Autocert::Pebble->new(new => 1, config => { profiles => { %profiles,
        shortlived => { description => 'six days', validityPeriod => SHORT_DAYS * DAY } } })->start;
    my $server = Autocert::Server->with_ca($pebble, config => listen_lines() . <<"CONF");
<VirtualHost *:\@https\@>
    AutocertDomain @written
</VirtualHost>
CONF
    ok $server->start, 'httpd starts' or return;
    ok all_stored($server, OBTAIN_SECONDS, values %file), 'addresses are obtained' or return;
    for my $address (@addresses) {
        my $seen = handshake(address => $address, port => $server->https, ca => $pebble->root, verify_name => $address);
        ok $seen->{ok}, "$address is served" or diag $seen->{error};
        cmp_ok $seen->{not_after} - $seen->{not_before}, '<=', SHORT_DAYS * DAY, "$address: by shortlived";
    }
    ok $server->stop, 'httpd stops';
    $pebble->stop_all;
};

subtest 'what -t says' => sub {
    my $judge = Autocert::Configtest->new;
    $judge->accepts('addresses of the internet', vhost('AutocertDomain 8.8.8.8 2001:4860:4860::8888 '
            . '[2001:4860:4860::8844]'));
    for my $address ('127.0.0.1', '10.1.2.3', '192.168.1.1', '172.16.0.1', '169.254.1.1', '100.64.0.1', '0.0.0.0',
        '192.0.2.1', '224.0.0.1', '::1', 'fd00::1', 'fe80::1', '2001:db8::1', '::') {
        my $text = vhost(">>AutocertDomain $address");
        $judge->fails_check("a public CA and $address", $text, "AutocertDomain: \"$address\" is no address of the "
            . 'internet, and no public CA issues for it: write a public one, or name a private CA with AutocertCA');
        $judge->accepts("a private CA and $address",
            "AutocertCA https://ca.example.org/dir\n" . $text =~ s/>>//r);
    }
};

done_testing;
