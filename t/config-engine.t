# Licensed under the Apache License, Version 2.0; see LICENSE.
# seconds: 180
#
# "AutocertEngine on" in server config: exactly the TLS vhosts without a certificate of
# their own get one. And names in the letters of their language, vhosts made by macros,
# and lines inside IfModule get theirs.

use strict;
use warnings;
use utf8;

use Apache::Test qw(-withtestmore);

use Autocert::Client qw(https_get http_get make_ca issue_pair);
use Autocert::Pebble;
use Autocert::Server;
use Autocert::Util qw(free_ports spit wait_until);

use constant OBTAIN_SECONDS => 60;

my $pebble = Autocert::Pebble->new;
$pebble->start;

my ($off_port, $third_port) = free_ports(2);
my $config = <<'CONF';
LoadModule macro_module @modules@/mod_macro.so
AutocertCA @pebble@ cafile=@cafile@
AutocertAcceptTOS on
AutocertCache dir:@cache@
AutocertEngine on
Listen 127.0.0.1:@http@
Listen 127.0.0.1:@https@ https
Listen 127.0.0.1:@off@ https
Listen 127.0.0.1:@third@ https
<Macro Site $name>
    <VirtualHost 127.0.0.1:@https@>
        AutocertDomain $name
    </VirtualHost>
</Macro>
<VirtualHost 127.0.0.1:@http@>
    ServerName plain.example.test
</VirtualHost>
<VirtualHost 127.0.0.1:@https@>
    ServerName first.example.test
    SSLEngine on
</VirtualHost>
<VirtualHost 127.0.0.1:@https@>
    ServerName second.example.test
</VirtualHost>
<VirtualHost 127.0.0.1:@third@>
    ServerName third.example.test
</VirtualHost>
<VirtualHost 127.0.0.1:@https@>
    ServerName own.example.test
    SSLEngine on
    SSLCertificateFile @root@/own.pem
</VirtualHost>
<VirtualHost 127.0.0.1:@https@>
    ServerName off.example.test
    AutocertEngine off
    SSLEngine on
    SSLCertificateFile @root@/off.pem
</VirtualHost>
<VirtualHost 127.0.0.1:@https@>
    AutocertDomain ignored.example.test
    AutocertEngine off
    SSLCertificateFile @root@/off.pem
</VirtualHost>
<VirtualHost 127.0.0.1:@off@>
    ServerName notls.example.test
    SSLEngine off
</VirtualHost>
<IfModule mod_ssl.c>
    <VirtualHost 127.0.0.1:@https@>
        <IfModule mod_autocert.c>
            AutocertDomain module.example.test
        </IfModule>
        ServerName module.example.test
    </VirtualHost>
</IfModule>
<VirtualHost 127.0.0.1:@https@>
    AutocertDomain éÉ.com
</VirtualHost>
Use Site macro.example.test
CONF
utf8::encode($config);

my $server = Autocert::Server->new(http => $pebble->http, https => $pebble->https, listen => 0,
    vars => { %{ $pebble->vars }, off => $off_port, third => $third_port,
        modules => Autocert::Server::modules_dir() },
    config => $config);
my $ca = make_ca('static CA');
for my $name (qw(own off)) {
    my $pair = issue_pair($ca, ["$name.example.test"]);
    spit($server->root . "/$name.pem", $pair->{pem} . $pair->{key_pem});
}
my ($status, $output) = $server->configtest;
is $status, 0, 'the configuration is good' or diag $output;
ok $server->start, 'httpd starts' or exit 1;

my @managed = qw(first.example.test second.example.test third.example.test module.example.test macro.example.test
    xn--9caa.com);
my $root = $pebble->root;
my %visit = (port => $server->https, ca => $root);
my %elsewhere = ('third.example.test' => $third_port);

sub visit
{
    my ($name) = @_;
    return https_get(%visit, port => $elsewhere{$name} // $server->https, sni => $name);
}

my %title = ('xn--9caa.com' => 'GC-05: a name written with a U-label');
for my $name (@managed) {
    my $seen = wait_until(OBTAIN_SECONDS, sub {
        my $try = visit($name);
        return $try->{ok} ? $try : undef;
    }, "a certificate for $name");
    is_deeply $seen && $seen->{names}, [$name],
        ($title{$name} // $name) . ' has a certificate of the CA, for itself alone';
    is $seen && $seen->{status}, 200, "$name is served";
    ok -f $server->cache_file($name), "$name is in the cache under its A-label";
}
my $upper = https_get(%visit, sni => 'XN--9CAA.COM', verify_name => 'xn--9caa.com');
is_deeply $upper->{names}, ['xn--9caa.com'], 'GC-06: in upper case it is the same name'
    or diag $upper->{error};
for my $name (qw(own off)) {
    my $seen = https_get(port => $server->https, sni => "$name.example.test");
    is $seen->{issuer_cn}, 'static CA', "$name.example.test serves its own certificate";
    is_deeply $seen->{names}, ["$name.example.test"], 'and no other';
}
is https_get(port => $server->https, sni => 'ignored.example.test')->{issuer_cn}, 'static CA',
    'AutocertDomain in a vhost with AutocertEngine off does nothing';
is http_get(port => $server->http, host => 'plain.example.test')->{status}, 200,
    'the plain vhost stays plain';
is http_get(port => $off_port, host => 'notls.example.test')->{status}, 200,
    'and so does one with SSLEngine off on a port for https';
is $pebble->orders, scalar @managed, 'nothing else was ordered';
my @files = grep { !/^\./ && !/^acme_account/ && !/\+token$/ && !/\+http-01$/ } do {
    opendir my $dir, $server->cache or die "$!\n";
    readdir $dir;
};
is_deeply [sort @files], [sort @managed], 'and nothing else is in the cache';

ok $server->graceful, 'after a graceful restart';
for my $name (@managed) {
    is visit($name)->{status}, 200, "$name is served at once";
}
is $pebble->orders, scalar @managed, 'without another order';

done_testing;
