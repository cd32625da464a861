# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Twenty virtual hosts, one name each, an empty cache: all are obtained without a
# restart, each by exactly one order, whatever the MPM.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use Autocert::Client qw(https_get);
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until);

use constant {
    HOSTS          => 20,
    OBTAIN_SECONDS => 120,
};

my @names = map { sprintf 'host%02d.example.test', $_ } 1 .. HOSTS;
my $pebble = Autocert::Pebble->new;
$pebble->start;

my $config = <<'CONF';
AutocertCA @pebble@ cafile=@cafile@
AutocertAcceptTOS on
AutocertCache dir:@cache@
CONF
$config .= <<"CONF" for @names;
<VirtualHost 127.0.0.1:\@https\@>
    AutocertDomain $_
    Header always set X-Host $_
</VirtualHost>
CONF

my $server = Autocert::Server->new(
    http => $pebble->http, https => $pebble->https, vars => $pebble->vars, config => $config);
ok $server->start, 'httpd starts' or exit 1;
my $mark = $server->mark;
my $pid = $server->pid;

# Nobody visits while they are obtained: configured names need no client.
my $stored = wait_until(OBTAIN_SECONDS, sub {
    return !grep { !-s $server->cache_file($_) } @names;
}, 'all certificates to be in the cache');
ok $stored, 'all certificates are stored'
    or diag 'missing: ' . join ' ', grep { !-s $server->cache_file($_) } @names;

my $root = $pebble->root;
my %serials;
for my $name (@names) {
    for my $tls ('1.2', '1.3') {
        my $seen = https_get(port => $server->https, sni => $name, ca => $root, tls => $tls);
        ok $seen->{ok}, "$name verifies under TLS $tls" or diag $seen->{error};
        is_deeply $seen->{names}, [$name], "$name has a certificate of its own";
        is $seen->{headers}{'x-host'}, $name, "$name leads to its virtual host";
        $serials{ $seen->{serial} // 'none' }{$name} = 1;
    }
}
is scalar(keys %serials), HOSTS, 'as many certificates as names';
is $pebble->orders, HOSTS, 'as many orders as names';
ok $server->running, 'httpd runs';
is $server->pid, $pid, 'and is the one that was started';
unlike $server->log_since($mark), qr/resuming normal operations/, 'no restart was needed';

done_testing;
