# Licensed under the Apache License, Version 2.0; see LICENSE.
# mpm: all
# seconds: 300
#
# What one stranger can cause: AutocertClientLimit counts networks, names on demand have half of the CA's
# order budget and those of one owner half of that, and renewals are on time meanwhile.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use Autocert::Client qw(https_get handshake handshake_all make_ca issue_pair cache_value);
use Autocert::Events qw(events);
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until);

use constant {
    INTERNAL     => 80,
    LIVE_SECONDS => 30,
    FLOOD        => 5000,    # names that one site asks for
    DAY          => 86_400,
};

my $ca = make_ca('a CA by hand');

sub new_server
{
    my ($pebble, $keys, $config) = @_;
    return Autocert::Server->with_ca($pebble, ca_keys => $keys, wait => '20s', threads => 20,
        test_modules => ['peer'], config => $config);
}

# How many of so many new names of a zone are served to clients from an address.
sub try_names
{
    my ($server, $root, $zone, $count, $from) = @_;
    our $serial;
    my @names = map { 'n' . ++$serial . ".$zone" } 1 .. $count;
    my $seen = handshake_all(port => $server->https, ca => $root, names => \@names, clients => 1,
        from => [$from]);
    my @bad = grep { !$_->{ok} } @$seen;
    is scalar(grep { ($_->{alert} // 0) != INTERNAL } @bad), 0, "$zone from $from: the others get internal_error"
        or diag $bad[0]{error};
    return $count - @bad;
}

subtest 'networks' => sub {
    my $pebble = Autocert::Pebble->new;
    $pebble->start;
    my $server = new_server($pebble, '', <<'CONF');
AutocertClientLimit 3 1h except 198.7.0.0/16
<VirtualHost 127.0.0.1:@https@>
    AutocertHostPolicy match n[0-9]{1,4}\.[a-z0-9]{1,9}\.test
    AutocertDomain listed.test
</VirtualHost>
CONF
    ok $server->start, 'httpd starts' or return;
    my $root = $pebble->root;
    is try_names($server, $root, 'a.test', 5, '127.128.1.1'), 3, 'an IPv6 /56 may cause its orders';
    is try_names($server, $root, 'a.test', 2, '127.128.1.9'), 0, 'its neighbour in the /56 has none left';
    is try_names($server, $root, 'b.test', 4, '127.128.2.1'), 3, 'another /56 of the site has';
    is try_names($server, $root, 'c.test', 4, '127.128.3.1'), 3, 'a third';
    is try_names($server, $root, 'd.test', 4, '127.128.4.1'), 3, 'a fourth';
    is try_names($server, $root, 'e.test', 4, '127.128.5.1'), 0, 'four times the limit is all for one /48';
    is try_names($server, $root, 'f.test', 4, '127.129.1.1'), 3, 'another site is not concerned';
    is try_names($server, $root, 'g.test', 4, '127.130.1.1'), 3, 'an IPv4 /24';
    is try_names($server, $root, 'g.test', 4, '127.130.7.1'), 4, 'a network after "except" is not counted';
    is try_names($server, $root, 'h.test', 4, '127.0.0.1'), 4, 'nor is a private address';
    like $server->log_since(0), qr/AC0341: autocert: n\d+\.h\.test: .*private address 127\.0\.0\.1 /,
        'but there is a question in the log';
    my $limited = () = $server->log_since(0) =~ /AC0340: .*2001:db8:128:/g;
    cmp_ok $limited, '>=', 1, 'and a word about the limit';
    # What is there is served to everybody.
    my $seen = handshake(port => $server->https, ca => $root, sni => 'n1.a.test', from => '127.128.1.1');
    ok $seen->{ok}, 'a certificate that is there is served without limit' or diag $seen->{error};
    # One order for the listed name, and those above.
    is $pebble->orders, 1 + 6 * 3 + 4 + 4, 'no order beyond those';
    ok $server->stop, 'httpd stops';
};

subtest 'one site asks for thousands of names' => sub {
    my $pebble = Autocert::Pebble->new;
    $pebble->start;
    my $server = new_server($pebble, 'orders=400/1h', <<'CONF');
AutocertClientLimit 20 1h
<VirtualHost 127.0.0.1:@https@>
    AutocertHostPolicy match n[0-9]{1,4}\.[a-z0-9]{1,9}\.test
    AutocertDomain due.test
</VirtualHost>
CONF
    # Due within the flood, by its lifetime.
    $server->cache_put('due.test', cache_value(issue_pair($ca, ['due.test'], not_before => -60 * DAY,
        not_after => 30 * DAY)));
    ok $server->start, 'httpd starts' or return;
    my $root = $pebble->root;
    my @names = map { "n$_.flood.test" } 1 .. FLOOD;
    my $mark = $server->mark;
    my $seen = handshake_all(port => $server->https, ca => $root, names => \@names, clients => 8,
        from => [map { "127.128.$_.1" } 1 .. 8]);
    my $got = grep { $_->{ok} } @$seen;
    is $got, 80, 'it stops at its limit: four times that of a /56';
    cmp_ok $pebble->orders, '<=', 80 + 1, 'the CA saw no more';
    is try_names($server, $root, 'other.test', 3, '127.129.1.1'), 3, 'others are served';
    ok wait_until(LIVE_SECONDS, sub { $server->log_since($mark) =~ /AC0110: autocert: due\.test: renewed/ }),
        'and the renewal that was due is done';
    ok $server->stop, 'httpd stops';
};

subtest 'shares of the budget' => sub {
    my $pebble = Autocert::Pebble->new;
    $pebble->start;
    my $server = new_server($pebble, 'orders=16/1h', <<'CONF');
AutocertClientLimit none
<VirtualHost 127.0.0.1:@https@>
    AutocertHostPolicy match n[0-9]{1,4}\.[a-z0-9]{1,9}\.test
</VirtualHost>
<VirtualHost 127.0.0.1:@https@>
    AutocertDomain l1.listed.test l2.listed.test l3.listed.test l4.listed.test
</VirtualHost>
CONF
    ok $server->start, 'httpd starts' or return;
    my $root = $pebble->root;
    ok wait_until(LIVE_SECONDS, sub { $pebble->orders >= 4 }), 'listed names are obtained';
    is try_names($server, $root, 'one.test', 6, '127.0.0.1'), 4, 'one owner: a quarter of all orders';
    is try_names($server, $root, 'two.test', 3, '127.0.0.1'), 3, 'another has a share of its own';
    is try_names($server, $root, 'three.test', 3, '127.0.0.1'), 1, 'all of them together: half';
    like $server->log_since(0), qr/AC0133: autocert: n\d+\.one\.test: not ordered: the share/, 'the log says so';
    ok $server->restart, 'httpd restarts';
    is try_names($server, $root, 'four.test', 2, '127.0.0.1'), 0, 'which changes nothing';
    my $orders = $pebble->orders;
    is $orders, 4 + 8, 'orders so far';
    # Listed names still find some.
    (my $config = $server->{config}) =~ s/l4\.listed\.test/l4.listed.test l5.listed.test l6.listed.test/;
    $server->write_config($config);
    $server->graceful;
    ok wait_until(LIVE_SECONDS, sub { $pebble->orders >= $orders + 2 }), 'listed names still find orders';
    ok $server->stop, 'httpd stops';
};

done_testing;
