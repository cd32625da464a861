# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Answers to http-01 from the cache: however the host is spelled, only for a token that is
# really there, and everything else is left to whoever comes next. No text with a path of
# this machine, no look outside the cache.

use strict;
use warnings;

use Apache::Test qw(-withtestmore);

use Autocert::Client qw(http_get http_raw https_get make_ca issue_pair cache_value);
use Autocert::Opens;
use Autocert::Server;
use Autocert::Util qw(wait_until free_ports spit);

use constant {
    TOKEN_MAX      => 128,
    SETTLE_SECONDS => 30,
};

my $token = 'DGyRejmCefe7v4NfDGDKfA_-0123456789';
my $answer = "$token.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI";
my $base = '/.well-known/acme-challenge/';

my $server = Autocert::Server->new(vars => { dead => scalar free_ports(1) }, config => <<'CONF');
AutocertCA https://127.0.0.1:@dead@/dir
AutocertAcceptTOS on
AutocertCache dir:@cache@
<VirtualHost 127.0.0.1:@https@>
    AutocertDomain example.test
</VirtualHost>
<VirtualHost 127.0.0.1:@http@>
    ServerName other.example.test
    Header always set X-Vhost other
</VirtualHost>
<VirtualHost 127.0.0.1:@http@>
    ServerName forbidden.example.test
    RewriteEngine on
    RewriteRule ^ - [F]
</VirtualHost>
CONF

my $ca = make_ca('a CA by hand');
$server->cache_put("$token+http-01", $answer);
$server->cache_put('example.test', cache_value(issue_pair($ca, ['example.test'])));
my $longest = 'L' x TOKEN_MAX;
$server->cache_put("$longest+http-01", "$longest.abc");
$server->cache_put('strange+http-01', "root:x:0:0:not an answer\n");
$server->cache_put('other+http-01', $answer);
spit($server->root . '/state/outside+http-01', 'outside.abc', 0644);
mkdir $server->htdocs . '/.well-known' or die;
mkdir $server->htdocs . '/.well-known/acme-challenge' or die;
spit($server->htdocs . '/.well-known/acme-challenge/webroot', "from the webroot\n");
spit($server->htdocs . "/.well-known/acme-challenge/$token", "never seen\n");
ok $server->start, 'httpd starts' or exit 1;
my $port = $server->http;

# Not through http_get(): these are the bytes that are sent.
sub ask
{
    my ($request) = @_;
    my $text = http_raw(port => $port, request => $request) // '';
    my ($head, $body) = split /\r\n\r\n/, $text, 2;
    my ($status) = ($head // '') =~ m{^HTTP/1\.[01] (\d{3})};
    return { status => $status, head => $head, body => $body };
}

sub request_of
{
    my ($path, $host, $method) = @_;
    return ($method // 'GET') . " $path HTTP/1.1\r\nHost: " . ($host // 'example.test')
        . "\r\nConnection: close\r\n\r\n";
}

for my $host ('example.test', 'Example.TEST:5002', "example.test:$port", 'example.test.',
    'EXAMPLE.TEST.:80', 'nobody.example.test', '127.0.0.1', 'forbidden.example.test') {
    my $seen = ask(request_of("$base$token", $host));
    is $seen->{status}, 200, "X-18 Host: $host";
    is $seen->{body}, $answer, "X-18 F12 Host: $host: the answer and nothing else, byte for byte";
    like $seen->{head}, qr{^Content-Type: text/plain}mi, "X-18 Host: $host: as text";
}
my $old = ask("GET $base$token HTTP/1.0\r\n\r\n");
is $old->{status}, 200, 'X-18 HTTP/1.0 without Host';
is $old->{body}, $answer, 'X-18 HTTP/1.0 without Host: the answer';
my $head = ask(request_of("$base$token", undef, 'HEAD'));
is $head->{status}, 200, 'HEAD';
is $head->{body}, '', 'HEAD: no body';
like $head->{head}, qr/^Content-Length: @{[length $answer]}\r?$/mi, 'HEAD: but its length';
is ask(request_of("$base$longest"))->{body}, "$longest.abc", 'a token of ' . TOKEN_MAX . ' letters';
is ask(request_of("$base$token?x=y"))->{body}, $answer, 'a query is no part of the token';
is ask("GET http://example.test$base$token HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")->{body},
    $answer, 'a request in absolute form';
my $tls = https_get(port => $server->https, sni => 'example.test', path => "$base$token");
is $tls->{body}, $answer, 'over https, where a CA may be redirected to' or diag $tls->{error};

my $webroot = ask(request_of($base . 'webroot'));
is $webroot->{status}, 200, 'HH-05 another token is for whoever comes next';
is $webroot->{body}, "from the webroot\n", 'HH-05 which may have it in a file';
is ask(request_of($base . 'unknown'))->{status}, 404, 'HH-05 or not';
is ask(request_of($base . 'unknown', 'forbidden.example.test'))->{status}, 403,
    'HH-05 or forbids it';

my $post = ask("POST $base$token HTTP/1.1\r\nHost: example.test\r\nContent-Length: 3\r\n"
        . "Connection: close\r\n\r\na=b");
isnt $post->{body}, $answer, 'POST is not answered';
isnt $post->{status}, undef, 'but by the next handler';

my $outside = Autocert::Opens->new($server->root . '/state');
my $inside = Autocert::Opens->new($server->cache);
my @odd = (
    ['300 letters', 'A' x 300], ['one letter too many', 'L' x (TOKEN_MAX + 1)],
    ['%00', '%00'], ['token and %00', "$token%00"], ['..', '..'], ['../', '../outside'],
    ['%2e%2e%2f', '%2e%2e%2foutside'], ['..%2f', '..%2foutside'], ['..\\', '..\\outside'],
    ['directories before it', "x/y/$token"], ['a slash after it', "$token/"],
    ['an encoded letter', '%44' . substr $token, 1], ['a suffix', "$token+http-01"],
    ['a dot', "$token."], ['a blank', "$token%20"], ['nothing', ''],
    ['a name with a certificate', 'example.test'], ['the account', 'acme_account+key'],
    ['a file that holds something else', 'strange'], ["a file with another token's answer", 'other'],
    ['our records', '.autocert'],
);
my $root = $server->root;
for my $row (@odd) {
    my ($what, $path) = @$row;
    # The file in the webroot is what Apache serves for another spelling of its name.
    my $seen = ask(request_of("$base$path", 'example.test'));
    like $seen->{status} // 'no answer', qr/^(?:200|30[1-8]|40[0-9]|414)$/, "X-19 $what: an answer";
    unlike $seen->{body} // '', qr/\Q$answer\E|outside\.abc|root:x|PRIVATE/, "X-19 $what: no content";
    unlike $seen->{body} // '', qr/\Q$root\E|autocert\b|No such file|too long/,
        "X-19 $what: no path and no reason in it";
}
is_deeply [grep { /^outside/ } $outside->names], [], 'X-19 no file outside the cache was opened';
my %opened = map { $_ => 1 } $inside->names;
is_deeply [sort grep { !/^(?:(?:strange|other)\+http-01|\.autocert|example\.test|)\z/ } keys %opened],
    [], 'X-19 and inside only those of well-formed tokens' or diag join ' ', sort keys %opened;
ok $opened{'strange+http-01'}, 'which are seen to be opened';

unlink $server->cache_file("$token+http-01") or die "unlink: $!\n";
is ask(request_of("$base$token"))->{body}, "never seen\n", 'a token that is withdrawn is the next one\'s';

done_testing;
