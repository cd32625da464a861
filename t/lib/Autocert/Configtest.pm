# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# What "httpd -t" says about a configuration.
#
#   my $judge = Autocert::Configtest->new;
#   $judge->accepts('one host', <<'CONF');
#   <VirtualHost *:443>
#       AutocertDomain www.example.org
#   </VirtualHost>
#   CONF
#   $judge->refuses('a wrong line', $text, 'AutocertCA: ...');
#
# ">>" marks the line that a message must name; it is taken away. In messages
# {N} is the place FILE:LINE of line N of the text. @words@ are those of
# Autocert::Server, and @modules@, the directory of httpd's modules.
#
# In front of the text stand lines that keep every warning away: Listen 80 and 443,
# AutocertAcceptTOS, and a cache below the ServerRoot; base => '...' replaces them.
package Autocert::Configtest;

use strict;
use warnings;

use Exporter 'import';
use Test::Builder ();

use Autocert::Server;
use Autocert::Util qw(slurp spit);

our @EXPORT_OK = qw(vhost);

my $BASE = <<'CONF';
Listen 80
Listen 443
AutocertAcceptTOS on
AutocertCache dir:@cache@
CONF

# More arguments are those of Autocert::Server->new().
sub new
{
    my ($class, %arg) = @_;

    my $base = delete $arg{base} // $BASE;
    my $server = Autocert::Server->new(%arg, listen => 0);
    $server->{vars} = { modules => Autocert::Server::modules_dir(), %{ $server->{vars} // {} } };
    return bless { server => $server, base => $base }, $class;
}

sub server { return $_[0]{server} }

# Judge a text: {status, output, file, first (line of its first line), marked}.
# Options: base, user (false: no User and Group lines), and those of Autocert::Server's
# configtest().
sub judge
{
    my ($self, $text, %opt) = @_;

    my $server = $self->{server};
    my $base = delete $opt{base} // $self->{base};
    my @lines = split /^/, $text;
    my ($marked) = grep { $lines[$_] =~ /^\s*>>/ } 0 .. $#lines;
    s/^(\s*)>>/$1/ for @lines;
    $server->write_config($base . join '', @lines);
    my $user = delete $opt{user} // 1;
    my $whole = slurp($server->conf_file);
    # Without mod_ssl nobody knows %{...}x.
    $whole =~ s/^(LogFormat|CustomLog)/# $1/mg if defined $server->{load};
    $whole =~ s/^(User|Group) /# $1 /mg unless $user;
    spit($server->conf_file, $whole);
    my $before = $server->preamble . $base;
    my $first = 1 + ($before =~ tr|\n||);
    my ($status, $output) = $server->configtest(%opt);
    return { status => $status, output => $output, file => $server->conf_file, first => $first,
        marked => defined $marked ? $first + $marked : undef };
}

# The words of the server and {N} put in.
sub expand
{
    my ($self, $said, $text) = @_;
    my $server = $self->{server};
    my %word = (root => $server->root, cache => $server->cache, %{ $server->{vars} });
    $text =~ s/\@([a-z]+)\@/$word{$1} \/\/ die "no value for \@$1\@\n"/ge;
    $text =~ s/\{(\d+)\}/"$said->{file}:" . ($said->{first} + $1 - 1)/ge;
    return $text;
}

# Good, and nothing to say about it.
sub accepts
{
    my ($self, $title, $text, %opt) = @_;

    my $tb = Test::Builder->new;
    my $said = $self->judge($text, %opt);
    return $tb->is_eq("$said->{status}: $said->{output}", "0: Syntax OK\n", $title);
}

# Good, with these warnings and no others, in this order.
sub warns
{
    my ($self, $title, $text, $messages, %opt) = @_;

    my $tb = Test::Builder->new;
    my $said = $self->judge($text, %opt);
    my @found = $said->{output} =~ /^.*\bAC0020: autocert: (.*)$/mg;
    my $others = $said->{output} =~ s/^.*\bAC0020: autocert: .*\n//mgr;
    my @wanted = map { place($said) . $self->expand($said, $_) } @$messages;
    return $tb->is_eq(join("\n", "$said->{status}: $others", @found),
        join("\n", "0: Syntax OK\n", @wanted), $title);
}

# "FILE:LINE: " of the marked line.
sub place
{
    my ($said) = @_;
    return defined $said->{marked} ? "$said->{file}:$said->{marked}: " : '';
}

# A vhost for https with these lines.
sub vhost
{
    my (@lines) = @_;
    return join '', "<VirtualHost *:443>\n", (map { "$_\n" } @lines), "</VirtualHost>\n";
}

# Wrong lines of a directive in server config: [argument, message].
sub refuses_lines
{
    my ($self, $directive, @cases) = @_;
    for my $case (@cases) {
        my ($argument, $message) = @$case;
        $self->refuses("$directive $argument", ">>$directive $argument\n", "$directive: $message");
    }
    return;
}

# Refused while the file is read: the message (a pattern, if it is not ours) and the place
# are httpd's way to say it.
sub refuses
{
    my ($self, $title, $text, $message, %opt) = @_;

    my $tb = Test::Builder->new;
    my $said = $self->judge($text, %opt);
    my $output = $said->{output};
    $output =~ s/^.*?(?=Syntax error on line )//;
    my $where = "Syntax error on line $said->{marked} of $said->{file}:\n";
    if (ref $message) {
        $output =~ s/^\Q$where\E/place: /;
        return $tb->like("$said->{status}: $output", qr/\A[1-9]\d*: place: $message/m, $title);
    }
    my $wanted = $where . $self->expand($said, $message) . "\n";
    return $tb->is_eq(($said->{status} ? 'refused' : 'accepted') . ": $output",
        "refused: $wanted", $title);
}

# Refused when all has been read: one error of ours, with its place, and "Syntax OK" is not said.
# name => NAME: the name of the certificate that the message begins with.
sub fails_check
{
    my ($self, $title, $text, $message, %opt) = @_;

    my $tb = Test::Builder->new;
    my $name = delete $opt{name};
    my $said = $self->judge($text, %opt);
    my @found = $said->{output} =~ /^.*\bAC0010: autocert: (.*)$/mg;
    my @bad = grep { /Syntax (?:OK|error)|AC0020/ } split /\n/, $said->{output};
    my $wanted = (defined $name ? "$name: " : '') . place($said) . $self->expand($said, $message);
    return $tb->is_eq(join("\n", $said->{status} ? 'refused' : 'accepted', @found, @bad),
        "refused\n$wanted", $title) || $tb->diag($said->{output});
}

1;
