# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Names that clients send and nobody may order a certificate for, from broken ones to those
# that only look like a managed one: an answer at once, and neither an order nor a file.
# And the other spellings of a managed name, which are that name.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use Autocert::Client qw(https_get);
use Autocert::Opens;
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(wait_until free_ports run_program);

use constant {
    OBTAIN_SECONDS => 60,
    ALERT_NO_NAME  => 112,
};

my @bogus = (
    ['SN-03', 'a\\b.com'], ['SN-04', 'a/b.com'], ['SN-06', 'foo'], ['SN-07', '.foo'],
    ['SN-08', 'foo.'], ['SN-01', 'foo.com'], ['SN-02', 'foo.com.'], ['SN-09', 'fo.o'],
    ['X-21', 'a..b'], ['X-21', 'foo..example.test'], ['X-21', '.foo.example.test'],
    ['X-21', 'foo.example.test..'], ['X-21', 'l' x 64 . '.example.test'],
    ['X-21', join('.', ('l' x 63) x 3, 'l' x 62)], ['X-21', '127.0.0.1'], ['X-21', '::1'],
    ['X-21', 'x.y.acme.invalid'], ['X-21', 'localhost'], ['X-21', 'a_b.com'], ['X-21', 'a+b.com'],
    ['X-21', 'a b.com'], ['X-21', 'a:80.com'], ['X-21', '-a.com'], ['X-21', '*.example.test'],
    ['X-21', 'foo.example.test:443'], ['X-21', 'foo.example.test+rsa'],
    ['X-21', 'acme_account+key'], ['X-21', '../foo.example.test'], ['X-21', "\xc3\xa9\xc3\xa9.com"],
    ['X-21', 'sub.foo.example.test'], ['X-21', 'example.test'],
);

my $config = <<'CONF';
AutocertCA @pebble@ cafile=@cafile@
AutocertAcceptTOS on
AutocertCache dir:@cache@
Listen 127.0.0.1:@second@
<VirtualHost 127.0.0.1:@https@>
    AutocertDomain foo.example.test
</VirtualHost>
<VirtualHost 127.0.0.1:@second@>
    AutocertDomain page.example.test
    AutocertFallback placeholder
</VirtualHost>
CONF
my $pebble = Autocert::Pebble->new;
$pebble->start;
my $second = free_ports(1);
my $server = Autocert::Server->new(http => $pebble->http, https => $pebble->https,
    vars => { %{ $pebble->vars }, second => $second },
    config => $config);
ok $server->start, 'httpd starts' or exit 1;
my $root = $pebble->root;
my @managed = ('foo.example.test', 'page.example.test');
# The second port is not where the CA looks, but it shows that all names are served there too.
for my $name (@managed) {
    ok $server->wait_for_log(qr/AC0110: autocert: \Q$name\E: obtained/, OBTAIN_SECONDS),
        "$name is obtained";
}
my $orders = $pebble->orders;
is $orders, 2, 'by an order each';

my $opens = Autocert::Opens->new($server->cache);
for my $row (@bogus) {
    my ($id, $name) = @$row;
    my $what = length $name > 40 ? length($name) . ' letters' : $name;
    my ($status, $text) = run_program(['openssl', 's_client', '-connect',
        '127.0.0.1:' . $server->https, '-servername', $name]);
    isnt $status, 0, "$id '$what': no certificate";
    like $text, qr/alert number @{[ALERT_NO_NAME]}\b/, "$id '$what': unrecognized_name";
    ($status, $text) = run_program(['openssl', 's_client', '-connect', "127.0.0.1:$second",
        '-servername', $name]);
    is $status, 0, "$id '$what': or the placeholder" or diag $text;
    unlike $text, qr/Pebble/i, "$id '$what': which is nobody's certificate";
}

for my $row (['GC-04', 'foo.example.test.'], ['GC-07', 'FOO.EXAMPLE.TEST'],
    ['GC-07', 'Foo.Example.Test.']) {
    my ($id, $spelling) = @$row;
    my $seen = https_get(port => $server->https, sni => $spelling, ca => $root,
        verify_name => 'foo.example.test', host => 'foo.example.test');
    is $seen->{status}, 200, "$id '$spelling' is foo.example.test" or diag $seen->{error};
    is_deeply $seen->{names}, ['foo.example.test'], "$id '$spelling': with its certificate";
}

my %known = map { $_ => 1 } @managed;
is_deeply [grep { !$known{$_} && $_ ne '.autocert' && $_ ne '' } $opens->names], [],
    'no file but those of the managed names was opened';

# An order that a bogus name has caused would come before that of a name added now.
$server->write_config($config . <<'CONF');
<VirtualHost 127.0.0.1:@https@>
    AutocertDomain added.example.test
</VirtualHost>
CONF
ok $server->graceful, 'a graceful restart with one more name';
ok $server->wait_for_log(qr/AC0110: autocert: added\.example\.test: obtained/, OBTAIN_SECONDS),
    'which is obtained';
is $pebble->orders, $orders + 1, 'that is the only order since';
opendir my $dir, $server->cache or die $server->cache . ": $!\n";
is_deeply [sort grep { !/^\./ } readdir $dir],
    ['acme_account+key', 'added.example.test', @managed], 'and the cache has what was ordered';

done_testing;
